#include "comm/communicator.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "tensor/transfer.h"

namespace hone::comm {

namespace {

void check_tensor(std::string_view op, std::string_view name, const Tensor& tensor) {
  HONE_CHECK(tensor.defined(), "[comm.{}] {} is undefined", op, name);
  HONE_CHECK(tensor.is_contiguous(), "[comm.{}] {} {} is not contiguous", op, name, tensor.shape().str());
}

void check_reducible(std::string_view op, const Tensor& tensor, Reduction reduction) {
  const bool floating =
      tensor.dtype() == DType::kF32 || tensor.dtype() == DType::kBF16 || tensor.dtype() == DType::kF64;
  const bool whole = tensor.dtype() == DType::kI32 || tensor.dtype() == DType::kI64;
  HONE_CHECK(floating || (whole && reduction != Reduction::kAverage), "[comm.{}] cannot {} {}", op,
             reduction == Reduction::kAverage ? "average" : "reduce", name_of(tensor.dtype()));
}

/// part is whole with its first dimension divided by the number of ranks.
void check_part_of_whole(std::string_view op, const Tensor& part, const Tensor& whole, int ranks) {
  check_tensor(op, "part", part);
  check_tensor(op, "whole", whole);
  std::vector<std::int64_t> dims = part.shape().dims();
  if (!dims.empty()) dims[0] *= ranks;
  HONE_CHECK(!dims.empty() && whole.shape() == Shape(dims) && whole.dtype() == part.dtype(),
             "[comm.{}] part {} {} and whole {} {} over {} ranks", op, name_of(part.dtype()),
             part.shape().str(), name_of(whole.dtype()), whole.shape().str(), ranks);
}

void check_rows(std::string_view name, const Tensor& tensor, const std::vector<std::int64_t>& rows,
                int ranks) {
  check_tensor("all_to_all", name, tensor);
  const bool sane = static_cast<int>(rows.size()) == ranks && tensor.rank() >= 1 &&
                    std::all_of(rows.begin(), rows.end(), [](std::int64_t n) { return n >= 0; }) &&
                    std::accumulate(rows.begin(), rows.end(), std::int64_t{0}) == tensor.size(0);
  HONE_CHECK(sane, "[comm.all_to_all] {} {} in {} pieces over {} ranks, which do not add up", name,
             tensor.shape().str(), rows.size(), ranks);
}

class SelfCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

 private:
  static void copy(const Tensor& from, const Tensor& to, device::Stream& stream) {
    if (from.data() != to.data()) copy_bytes(stream, from, to);
  }
  void do_all_reduce(const Tensor&, Reduction, device::Stream&) override {}
  void do_all_gather(const Tensor& part, const Tensor& whole, device::Stream& stream) override {
    copy(part, whole, stream);
  }
  void do_reduce_scatter(const Tensor& whole, const Tensor& part, Reduction,
                         device::Stream& stream) override {
    copy(whole, part, stream);
  }
  void do_broadcast(const Tensor&, int, device::Stream&) override {}
  void do_all_to_all(const Tensor& send, const std::vector<std::int64_t>&, const Tensor& receive,
                     const std::vector<std::int64_t>&, device::Stream& stream) override {
    copy(send, receive, stream);
  }
  void do_barrier(device::Stream& stream) override { stream.synchronize(); }
};

}  // namespace

void Communicator::all_reduce(const Tensor& tensor, Reduction reduction, device::Stream& stream) {
  check_tensor("all_reduce", "tensor", tensor);
  check_reducible("all_reduce", tensor, reduction);
  do_all_reduce(tensor, reduction, stream);
}

void Communicator::all_gather(const Tensor& part, const Tensor& whole, device::Stream& stream) {
  check_part_of_whole("all_gather", part, whole, size());
  do_all_gather(part, whole, stream);
}

void Communicator::reduce_scatter(const Tensor& whole, const Tensor& part, Reduction reduction,
                                  device::Stream& stream) {
  check_part_of_whole("reduce_scatter", part, whole, size());
  check_reducible("reduce_scatter", whole, reduction);
  do_reduce_scatter(whole, part, reduction, stream);
}

void Communicator::broadcast(const Tensor& tensor, int root, device::Stream& stream) {
  check_tensor("broadcast", "tensor", tensor);
  HONE_CHECK(root >= 0 && root < size(), "[comm.broadcast] from rank {} of {}", root, size());
  do_broadcast(tensor, root, stream);
}

void Communicator::all_to_all(const Tensor& send, const std::vector<std::int64_t>& send_rows,
                              const Tensor& receive, const std::vector<std::int64_t>& receive_rows,
                              device::Stream& stream) {
  check_rows("send", send, send_rows, size());
  check_rows("receive", receive, receive_rows, size());
  const std::vector<std::int64_t>& a = send.shape().dims();
  const std::vector<std::int64_t>& b = receive.shape().dims();
  HONE_CHECK(send.dtype() == receive.dtype() && std::equal(a.begin() + 1, a.end(), b.begin() + 1, b.end()),
             "[comm.all_to_all] rows of {} {} and of {} {}", name_of(send.dtype()), send.shape().str(),
             name_of(receive.dtype()), receive.shape().str());
  const auto mine = static_cast<std::size_t>(rank());
  HONE_CHECK(send_rows[mine] == receive_rows[mine],
             "[comm.all_to_all] rank {} sends itself {} rows and takes {}", rank(), send_rows[mine],
             receive_rows[mine]);
  do_all_to_all(send, send_rows, receive, receive_rows, stream);
}

void Communicator::barrier(device::Stream& stream) {
  do_barrier(stream);
}

std::shared_ptr<Communicator> make_self_communicator() {
  return std::make_shared<SelfCommunicator>();
}

}  // namespace hone::comm
