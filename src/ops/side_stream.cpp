#include "ops/side_stream.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/error.h"

namespace hone::ops {

namespace {

/// What failed before has been said.
void join_quietly(SideStream& side) noexcept {
  try {
    side.join();
  } catch (const Error&) {
  }
}

}  // namespace

SideStream::SideStream(Context& context, std::size_t most_bytes, const MakeStream& make_stream)
    : context_(context),
      side_(make_stream ? make_stream() : device::make_stream(context.device(), 1)),
      most_bytes_(most_bytes) {}

SideStream::~SideStream() {
  join_quietly(*this);
}

std::size_t SideStream::UnderWay::read_bytes() const {
  std::size_t bytes = 0;
  for (const Tensor& tensor : reads)
    if (tensor.defined()) bytes += tensor.size_bytes();
  return bytes;
}

void SideStream::put(std::vector<Tensor> reads, std::vector<Tensor> writes, Work work) {
  side_.set_kernels(context_.kernels());
  side_.set_profile(context_.profile());
  side_.stream().wait(*context_.stream().record());
  UnderWay& last =
      under_way_.emplace_back(UnderWay{std::move(reads), std::move(writes), std::move(work), nullptr});
  bytes_ += last.read_bytes();
  last.work(side_);
  last.done = side_.stream().record();
  std::size_t count = 0, left = bytes_;
  for (; left > most_bytes_ && count + 1 < under_way_.size(); ++count) left -= under_way_[count].read_bytes();
  wait_for_first(count);
}

void SideStream::wait_for(const Tensor& written) {
  const auto writes = [&](const UnderWay& work) {
    return std::ranges::any_of(work.writes, [&](const Tensor& t) { return t.shares_buffer_with(written); });
  };
  const auto last = std::find_if(under_way_.rbegin(), under_way_.rend(), writes);
  wait_for_first(static_cast<std::size_t>(under_way_.rend() - last));
}

void SideStream::join() {
  wait_for_first(under_way_.size());
  auto &costs = side_.stream().costs(), &all = context_.stream().costs();
  all.insert(all.end(), std::make_move_iterator(costs.begin()), std::make_move_iterator(costs.end()));
  costs.clear();
}

/// Of what is under way. The stream is in order: whoever waits for one has waited for those before it.
void SideStream::wait_for_first(std::size_t count) {
  if (count == 0) return;
  const auto& done = under_way_[count - 1].done;
  // One that has no event yet has thrown on its way.
  context_.stream().wait(*(done ? done : side_.stream().record()));
  for (; count > 0; --count) {
    bytes_ -= under_way_.front().read_bytes();
    under_way_.pop_front();
  }
}

SideStreamScope::SideStreamScope(Context& context, SideStream* side)
    : context_(context), before_(context.side_stream()) {
  context.set_side_stream(side);
}

SideStreamScope::~SideStreamScope() {
  if (SideStream* side = context_.side_stream()) join_quietly(*side);
  context_.set_side_stream(before_);
}

}  // namespace hone::ops
