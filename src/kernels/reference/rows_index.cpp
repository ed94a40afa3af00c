// Reference: rows by index — their choice, and its gradients.
#include <vector>

#include "kernels/reference/reference.h"
#include "kernels/reference/typed.h"

namespace hone::kernels::reference {

void embedding_grad(const EmbeddingGradArgs& a, Stream& stream) {
  std::vector<std::vector<std::int64_t>> rows_of_id(static_cast<std::size_t>(a.vocab));
  for (std::int64_t i = 0; i < a.rows; ++i)
    if (a.ids[i] != a.padding_id) rows_of_id[static_cast<std::size_t>(a.ids[i])].push_back(i);
  parallel_for(stream, a.vocab, [&](std::int64_t id) {
    for (std::int64_t j = 0; j < a.hidden; ++j) {
      double sum = 0;
      for (const std::int64_t i : rows_of_id[static_cast<std::size_t>(id)])
        sum += load(a.dout, a.dout_dtype, i * a.hidden + j);
      put(a.dtable, a.dtable_dtype, id * a.hidden + j, sum, a.accumulate);
    }
  });
}

void take_rows(const TakeRowsArgs& a, Stream& stream) {
  parallel_for(stream, a.y.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.y.cols; ++j) store(a.y, i, j, load(a.x, a.index[i], j));
  });
}

void put_rows(const PutRowsArgs& a, Stream& stream) {
  if (!a.accumulate)
    parallel_for(stream, a.dx.rows, [&](std::int64_t i) {
      for (std::int64_t j = 0; j < a.dx.cols; ++j) store(a.dx, i, j, 0);
    });
  parallel_for(stream, a.dy.rows, [&](std::int64_t i) {
    for (std::int64_t j = 0; j < a.dy.cols; ++j) put(a.dx, a.index[i], j, load(a.dy, i, j), a.accumulate);
  });
}

}  // namespace hone::kernels::reference
