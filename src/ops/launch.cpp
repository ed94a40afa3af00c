#include "ops/launch.h"

#include <algorithm>
#include <string>

#include "ops/matrix.h"

namespace hone::ops {

namespace {

std::string list_of(std::initializer_list<DType> dtypes) {
  std::string text;
  for (const DType dtype : dtypes) {
    if (!text.empty()) text += " or ";
    text += name_of(dtype);
  }
  return text;
}

}  // namespace

void check_argument(const Context& context, std::string_view op, std::string_view name, const Tensor& tensor,
                    int rank, std::initializer_list<DType> dtypes) {
  HONE_CHECK(tensor.defined(), "[{}] {} is undefined", op, name);
  HONE_CHECK(tensor.device() == context.device(), "[{}] {} is on {}, the context on {}", op, name,
             device::name_of(tensor.device()), device::name_of(context.device()));
  HONE_CHECK(tensor.rank() == rank && std::find(dtypes.begin(), dtypes.end(), tensor.dtype()) != dtypes.end(),
             "[{}] {} is {} {}, wanted rank {}, {}", op, name, name_of(tensor.dtype()), tensor.shape().str(),
             rank, list_of(dtypes));
}

void check_dense_argument(const Context& context, std::string_view op, std::string_view name,
                          const Tensor& tensor, int rank, std::initializer_list<DType> dtypes) {
  check_argument(context, op, name, tensor, rank, dtypes);
  HONE_CHECK(tensor.is_contiguous(), "[{}] {} {} has rows {} elements apart, wanted dense", op, name,
             tensor.shape().str(), tensor.row_stride());
}

void fail_unsupported(const Context& context, std::string_view op) {
  fail("[{}] not supported on {}", op, device::name_of(context.device()));
}

void check_unit_gradient(Context& context, std::string_view op, const Tensor& grad) {
  HONE_CHECK(grad.data() == context.one().data(),
             "[{}] the loss reaches backward with a gradient that is not 1; put factors into scale", op);
}

void copy(Context& context, std::string_view op, const Tensor& x, const Tensor& y, bool accumulate,
          float factor) {
  launch(context, op, context.kernels().copy,
         {.x = as_matrix(x), .y = as_matrix(y), .alpha = factor, .accumulate = accumulate});
}

Tensor converted(Context& context, std::string_view op, const Tensor& tensor, DType dtype) {
  if (tensor.dtype() == dtype) return tensor;
  Tensor result = context.empty(tensor.shape(), dtype, device::Purpose::kWorkspace);
  copy(context, op, tensor, result);
  return result;
}

}  // namespace hone::ops
