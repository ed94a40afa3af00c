#include "train/host_states.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "kernels/moments.h"
#include "tensor/transfer.h"

namespace hone::train {

namespace {

/// Kernels load vectors of up to 64 bytes; cards copy fastest from 256 on.
constexpr std::size_t kAlignment = 256;

std::int64_t blocks_of(std::int64_t elements) {
  return (elements + kernels::kMomentBlock - 1) / kernels::kMomentBlock;
}

/// Calls f(tensor, whether it holds scales) for each.
template <typename AnyStates, typename F>
void for_each(AnyStates& states, const F& f) {
  for (auto* tensor : {&states.master, &states.first, &states.second})
    if (tensor->defined()) f(*tensor, false);
  for (auto* tensor : {&states.first_scales, &states.second_scales})
    if (tensor->defined()) f(*tensor, true);
}

/// Calls f(tensor of a, tensor of b) for each that both have.
template <typename F>
void for_both(const States& a, const States& b, const F& f) {
  for (const auto member :
       {&States::master, &States::first, &States::second, &States::first_scales, &States::second_scales})
    if ((a.*member).defined()) f(a.*member, b.*member);
}

}  // namespace

bool HostStates::are_apart(const ops::Context& context) {
  const auto device = context.device();
  return device.type == device::DeviceType::kMeta ? device.stands_for == device::DeviceType::kCuda
                                                  : !context.stream().shares_host_memory();
}

HostStates::HostStates(ops::Context& context, std::size_t piece_bytes, const MakeStream& make_stream)
    : context_(context), piece_bytes_(piece_bytes) {
  const auto make = [&] { return make_stream ? make_stream() : device::make_stream(context.device(), 1); };
  there_ = make();
  back_ = make();
}

HostStates::~HostStates() {
  try {  // the buffers on the device are the context's stream's again after their last use
    context_.stream().wait(*there_->record());
    context_.stream().wait(*back_->record());
  } catch (const Error&) {  // what failed before has been said
  }
}

Tensor HostStates::zeros(const Shape& shape, DType dtype) {
  const auto bytes = static_cast<std::size_t>(shape.numel()) * size_of(dtype);
  auto memory = context_.stream().pinned_memory(bytes, device::Purpose::kOptimizer);
  if (auto* data = static_cast<std::byte*>(memory->data()); data != nullptr) {
    Team& team = context_.stream().team();
    constexpr std::int64_t kPage = 4096;
    const auto size = static_cast<std::int64_t>(bytes);
    team.parallel_ranges(team.num_threads(), (size + kPage - 1) / kPage,
                         [&](std::int64_t begin, std::int64_t end, int) {
                           std::memset(data + begin * kPage, 0,
                                       static_cast<std::size_t>(std::min(size, end * kPage) - begin * kPage));
                         });
  }
  return Tensor::view_buffer(std::move(memory), 0, shape, dtype);
}

std::size_t HostStates::add(States states, std::int64_t elements) {
  std::size_t bytes_of_block = 0;
  for_each(states, [&](const Tensor& tensor, bool scales) {
    HONE_CHECK(tensor.numel() == (scales ? blocks_of(elements) : elements), "states {} of {} elements",
               tensor.shape().str(), elements);
    bytes_of_block += size_of(tensor.dtype()) * static_cast<std::size_t>(scales ? 1 : kernels::kMomentBlock);
  });
  HONE_CHECK(bytes_of_block > 0, "a parameter of {} elements without states", elements);
  const auto blocks = std::max<std::size_t>(1, piece_bytes_ / bytes_of_block);
  parameters_.push_back(
      {std::move(states), elements, static_cast<std::int64_t>(blocks) * kernels::kMomentBlock});
  return parameters_.size() - 1;
}

void HostStates::allocate() {
  std::size_t most = 0, pieces = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const auto& p = parameters_[i];
    std::size_t bytes = 0;
    (void)laid_out(of_host({i, 0, std::min(p.piece, p.elements)}), nullptr, bytes);
    most = std::max(most, bytes);
    pieces += static_cast<std::size_t>((p.elements + p.piece - 1) / p.piece);
  }
  places_.clear();
  for (std::size_t i = 0; i < std::min(kBuffers, pieces); ++i)
    places_.push_back({context_.allocator().allocate(most, device::Purpose::kOptimizer)});
  there_->wait(*context_.stream().record());  // whose memory they were
}

void HostStates::begin_round() {
  brought_.clear();
  expected_.clear();
  last_order_ = std::exchange(order_, {});
  if (all_back_) there_->wait(*all_back_);
  for (const std::size_t parameter : last_order_) expect(parameter);
  bring_ahead();
}

void HostStates::update(std::size_t parameter, device::Stream& stream, const Work& work) {
  order_.push_back(parameter);
  const auto& p = parameters_.at(parameter);
  for (std::int64_t begin = 0; begin < p.elements; begin += p.piece) {
    const Piece piece{parameter, begin, std::min(p.elements, begin + p.piece)};
    const Brought brought = take(piece);
    Place& place = places_.at(brought.place);
    const States host = of_host(piece);
    std::size_t bytes = 0;
    const States here = laid_out(host, place.memory, bytes);
    stream.wait(*brought.arrived);
    work(piece.begin, piece.end, here);
    back_->wait(*stream.record());
    for_both(here, host, [&](const Tensor& from, const Tensor& to) { bring_back(*back_, from, to); });
    all_back_ = place.left = back_->record();
    bring_ahead();
  }
}

void HostStates::wait() {
  brought_.clear();
  expected_.clear();
  there_->synchronize();
  back_->synchronize();
}

void HostStates::expect(std::size_t parameter) {
  const auto& p = parameters_.at(parameter);
  for (std::int64_t begin = 0; begin < p.elements; begin += p.piece)
    expected_.push_back({parameter, begin, std::min(p.elements, begin + p.piece)});
}

/// As many as there are places for.
void HostStates::bring_ahead() {
  while (brought_.size() < places_.size() && !expected_.empty()) {
    const Piece piece = expected_.front();
    expected_.pop_front();
    const std::size_t at = next_place_++ % places_.size();
    if (places_[at].left) there_->wait(*places_[at].left);
    const States host = of_host(piece);
    std::size_t bytes = 0;
    for_both(host, laid_out(host, places_[at].memory, bytes),
             [&](const Tensor& from, const Tensor& to) { bring(*there_, from, to); });
    brought_.push_back({piece, at, there_->record()});
  }
}

/// What was expected before it is not asked for any more: a parameter had no gradient this time.
HostStates::Brought HostStates::take(const Piece& piece) {
  while (!brought_.empty() && brought_.front().piece != piece) brought_.pop_front();
  if (brought_.empty()) {
    while (!expected_.empty() && expected_.front() != piece) expected_.pop_front();
    if (expected_.empty()) {
      expect(piece.parameter);
      while (expected_.front() != piece) expected_.pop_front();
    }
    bring_ahead();
  }
  Brought front = std::move(brought_.front());
  brought_.pop_front();
  return front;
}

States HostStates::of_host(const Piece& piece) const {
  States part = parameters_.at(piece.parameter).states;
  for_each(part, [&](Tensor& tensor, bool scales) {
    tensor = tensor.reshape(Shape{tensor.numel()})
                 .rows(scales ? piece.begin / kernels::kMomentBlock : piece.begin,
                       scales ? blocks_of(piece.end) : piece.end);
  });
  return part;
}

States HostStates::laid_out(const States& shapes, const std::shared_ptr<device::Buffer>& memory,
                            std::size_t& bytes) {
  States part = shapes;
  for_each(part, [&](Tensor& tensor, bool) {
    const std::size_t size = tensor.size_bytes();
    if (memory) tensor = Tensor::view_buffer(memory, bytes, tensor.shape(), tensor.dtype());
    bytes += (size + kAlignment - 1) / kAlignment * kAlignment;
  });
  return part;
}

}  // namespace hone::train
