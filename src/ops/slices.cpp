#include "ops/slices.h"

#include <numeric>

#include "ops/launch.h"

namespace hone::ops {

namespace {

enum class Along { kRows, kColumns };

Tensor part_of(const Tensor& x, Along along, std::int64_t begin, std::int64_t end) {
  return along == Along::kRows ? x.rows(begin, end) : x.columns(begin, end);
}

std::vector<Tensor> split(Context& context, std::string_view op, const Tensor& x, Along along,
                          const std::vector<std::int64_t>& sizes) {
  check_argument(context, op, "x", x, 2, kComputeTypes);
  const std::int64_t size = x.size(along == Along::kRows ? 0 : 1);
  for (const std::int64_t part : sizes) HONE_CHECK(part >= 0, "[{}] a part of {}", op, part);
  HONE_CHECK(std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) == size, "[{}] parts of {} of x {}",
             op, Shape(sizes).str(), x.shape().str());
  std::vector<Tensor> parts;
  const Tensor plain = x.detach();
  std::int64_t begin = 0;
  for (const std::int64_t part : sizes) {
    parts.push_back(part_of(plain, along, begin, begin + part));
    begin += part;
  }
  if (!needs_grad(context, {&x})) return parts;
  std::vector<Tensor*> outputs;
  for (Tensor& part : parts) outputs.push_back(&part);
  record(context, op, {&x}, outputs, [op, along, sizes](Backward& b) {
    const GradTarget to = b.target(0);
    std::int64_t at = 0;
    for (std::size_t i = 0; i < sizes.size(); at += sizes[i++]) {
      const Tensor place = part_of(to.grad, along, at, at + sizes[i]);
      if (b.grad(i).defined()) {
        copy(b.context(), op, b.grad(i), place, to.accumulate);
      } else if (!to.accumulate) {
        copy(b.context(), op, b.context().zeros(place.shape(), place.dtype()), place, false);
      }
    }
  });
  return parts;
}

Tensor one_part(Context& context, std::string_view op, const Tensor& x, Along along, std::int64_t begin,
                std::int64_t end) {
  check_argument(context, op, "x", x, 2, kComputeTypes);
  const std::int64_t size = x.size(along == Along::kRows ? 0 : 1);
  HONE_CHECK(begin >= 0 && begin <= end && end <= size, "[{}] {} to {} of x {}", op, begin, end,
             x.shape().str());
  return split(context, op, x, along, {begin, end - begin, size - end})[1];
}

}  // namespace

std::vector<Tensor> split_columns(Context& context, const Tensor& x,
                                  const std::vector<std::int64_t>& widths) {
  return split(context, "ops.split_columns", x, Along::kColumns, widths);
}

std::vector<Tensor> split_rows(Context& context, const Tensor& x, const std::vector<std::int64_t>& heights) {
  return split(context, "ops.split_rows", x, Along::kRows, heights);
}

Tensor columns(Context& context, const Tensor& x, std::int64_t begin, std::int64_t end) {
  return one_part(context, "ops.columns", x, Along::kColumns, begin, end);
}

Tensor rows(Context& context, const Tensor& x, std::int64_t begin, std::int64_t end) {
  return one_part(context, "ops.rows", x, Along::kRows, begin, end);
}

Tensor concat_columns(Context& context, const std::vector<Tensor>& parts) {
  constexpr std::string_view kOp = "ops.concat_columns";
  HONE_CHECK(!parts.empty(), "[{}] of no parts", kOp);
  std::vector<std::int64_t> widths;
  std::vector<const Tensor*> inputs;
  bool wanted = false;
  for (const Tensor& part : parts) {
    check_argument(context, kOp, "a part", part, 2, {parts[0].dtype()});
    HONE_CHECK(part.size(0) == parts[0].size(0), "[{}] parts {} and {}", kOp, parts[0].shape().str(),
               part.shape().str());
    widths.push_back(part.size(1));
    inputs.push_back(&part);
    wanted = wanted || needs_grad(context, {&part});
  }
  const std::int64_t width = std::accumulate(widths.begin(), widths.end(), std::int64_t{0});
  Tensor y = context.empty({parts[0].size(0), width}, parts[0].dtype());
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    copy(context, kOp, part, y.columns(begin, begin + part.size(1)), false);
    begin += part.size(1);
  }
  if (!wanted) return y;
  record(context, kOp, inputs, {&y}, [widths](Backward& b) {
    std::int64_t at = 0;
    for (std::size_t i = 0; i < widths.size(); at += widths[i++]) {
      if (!b.wants(i)) continue;
      const GradTarget to = b.target(i);
      copy(b.context(), kOp, b.grad().columns(at, at + widths[i]), to.grad, to.accumulate);
    }
  });
  return y;
}

}  // namespace hone::ops
