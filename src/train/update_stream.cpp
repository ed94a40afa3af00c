#include "train/update_stream.h"

#include <iterator>
#include <utility>

#include "base/error.h"

namespace hone::train {

UpdateStream::UpdateStream(ops::Context& context, std::size_t most_bytes,
                           const HostStates::MakeStream& make_stream)
    : context_(context),
      updates_(make_stream ? make_stream() : device::make_stream(context.device(), 1)),
      most_bytes_(most_bytes) {}

UpdateStream::~UpdateStream() {
  try {
    join();
  } catch (const Error&) {  // what failed before has been said
  }
}

void UpdateStream::put(Tensor gradient, const std::function<void(ops::Context&)>& work, Tensor beside) {
  updates_.set_kernels(context_.kernels());
  updates_.set_profile(context_.profile());
  updates_.stream().wait(*context_.stream().record());
  bytes_ += gradient.size_bytes();
  under_way_.push_back({std::move(gradient), std::move(beside), nullptr});
  work(updates_);
  under_way_.back().done = updates_.stream().record();
  while (bytes_ > most_bytes_ && under_way_.size() > 1) wait_for_oldest();
}

void UpdateStream::join() {
  while (!under_way_.empty()) wait_for_oldest();
  auto &costs = updates_.stream().costs(), &all = context_.stream().costs();
  all.insert(all.end(), std::make_move_iterator(costs.begin()), std::make_move_iterator(costs.end()));
  costs.clear();
}

void UpdateStream::wait_for_oldest() {
  UnderWay& oldest = under_way_.front();
  // One that has no event yet has thrown on its way.
  context_.stream().wait(*(oldest.done ? oldest.done : updates_.stream().record()));
  bytes_ -= oldest.gradient.size_bytes();
  under_way_.pop_front();
}

}  // namespace hone::train
