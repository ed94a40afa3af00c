#include "text/jinja/budget.h"

#include "text/jinja/text.h"

namespace hone::text::jinja {

namespace {

thread_local Budget* current = nullptr;

}  // namespace

Budget::Budget() : outer_(current) {
  current = this;
}
Budget::~Budget() {
  current = outer_;
}

void Budget::spend(std::uint64_t steps) {
  if (current == nullptr) return;
  current->steps_ += steps;
  if (current->steps_ > kMaxSteps)
    raise("RuntimeError", "the template runs for too long (more than {} steps)", kMaxSteps);
}

void Holding::take(std::size_t bytes) {
  if (current == nullptr) return;
  if (bytes > Budget::kMaxHeldBytes - current->held_)
    raise("MemoryError", "the template holds more than {} MiB", Budget::kMaxHeldBytes >> 20);
  current->held_ += bytes;
  bytes_ += bytes;
}

void Holding::give_back() {
  if (current != nullptr) current->held_ -= bytes_;
  bytes_ = 0;
}

}  // namespace hone::text::jinja
