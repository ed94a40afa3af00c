#include "train/resume.h"

#include "base/log.h"
#include "device/out_of_memory.h"

namespace hone::train {

ResumePoint::ResumePoint(const CheckpointStore& store) : store_(store), candidates_(store.all()) {
  find();
}

void ResumePoint::find() {
  while (!candidates_.empty()) {
    try {
      state_ = CheckpointStore::load_state(candidates_.front());
      return;
    } catch (const NewerCheckpoint&) {
      throw;  // not broken: neither skipped nor renamed
    } catch (const Error& e) {
      refuse(e);
    }
  }
}

void ResumePoint::refuse(const Error& error) {
  if (error.kind() != ErrorKind::kUser) throw error;
  log_warning("{}; trying the checkpoint before it", error.what());
  broken_.push_back(candidates_.front());
  candidates_.erase(candidates_.begin());
  if (candidates_.empty())
    fail(
        "{}: none of the checkpoints can be continued from (the warnings above say why); delete the "
        "directory to start anew",
        store_.directory().string());
}

void ResumePoint::restore(ops::Context& context, Optimizer& optimizer) {
  for (;;) {
    try {
      CheckpointStore::load_tensors(candidates_.front(), context, optimizer);
      break;
    } catch (const device::OutOfMemory&) {
      throw;  // the checkpoint is not to blame
    } catch (const Error& e) {
      refuse(e);
    }
    find();
  }
  optimizer.set_updates(state_.updates);
  optimizer.set_last_norm(state_.last_norm);
  store_.set_aside(broken_);
}

}  // namespace hone::train
