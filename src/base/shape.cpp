#include "base/shape.h"

#include "base/error.h"

namespace hone {

std::int64_t Shape::operator[](int i) const {
  const int at = i < 0 ? i + rank() : i;
  HONE_CHECK(at >= 0 && at < rank(), "dimension {} of a shape {}", i, str());
  return dims_[static_cast<std::size_t>(at)];
}

std::int64_t Shape::numel() const {
  std::int64_t n = 1;
  for (const auto d : dims_) n *= d;
  return n;
}

std::string Shape::str() const {
  std::string text = "(";
  for (std::size_t i = 0; i < dims_.size(); ++i) text += (i > 0 ? ", " : "") + std::to_string(dims_[i]);
  return text + ")";
}

}  // namespace hone
