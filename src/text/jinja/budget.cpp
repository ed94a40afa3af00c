#include "text/jinja/budget.h"

#include "text/jinja/text.h"

namespace hone::text::jinja {

namespace {

thread_local Budget* current = nullptr;

}  // namespace

Budget::Budget(std::uint64_t max_steps, std::size_t max_held_bytes)
    : outer_(current), max_steps_(max_steps), max_held_(max_held_bytes) {
  current = this;
}
Budget::~Budget() {
  current = outer_;
}

void Budget::spend(std::uint64_t steps) {
  if (current == nullptr) return;
  current->steps_ += steps;
  if (current->steps_ > current->max_steps_)
    raise("RuntimeError", "the template runs for too long (more than {} steps)", current->max_steps_);
}

void Holding::take(std::size_t bytes) {
  if (current == nullptr) return;
  if (bytes > current->max_held_ - current->held_)
    raise("MemoryError", "the template holds more than {} MiB", current->max_held_ >> 20);
  current->held_ += bytes;
  bytes_ += bytes;
}

void Holding::give_back() {
  if (current != nullptr) current->held_ -= bytes_;
  bytes_ = 0;
}

}  // namespace hone::text::jinja
