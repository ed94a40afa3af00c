#include "hub/weight_map.h"

#include <numeric>
#include <utility>

#include "base/error.h"

namespace hone::hub {

namespace {

// A plane's elements are looked up one by one, the planes are divided out: enough elements to a plane that
// this does not show, few enough that its table stays in the cache.
constexpr std::int64_t kLeastPlane = 256;
constexpr std::int64_t kMostPlane = std::int64_t{1} << 14;

std::int64_t ceil_div(std::int64_t a, std::int64_t b) {  // b > 0
  return a >= 0 ? (a + b - 1) / b : -(-a / b);
}
std::int64_t floor_div(std::int64_t a, std::int64_t b) {  // b > 0
  return -ceil_div(-a, b);
}

Region whole_region(const Shape& shape) {
  return {std::vector<std::int64_t>(shape.dims().size(), 0), shape.dims()};
}

/// Elements of its dimension that an axis spans, with `inner`, what a step of it must pass.
std::int64_t span_of(const WeightMap::Axis& axis, std::int64_t inner) {
  return (axis.size - 1) * axis.step + inner;
}

/// Indices of the axes that run along a dimension, the largest step first.
std::vector<std::size_t> axes_along(const std::vector<WeightMap::Axis>& axes, std::size_t dim) {
  std::vector<std::size_t> found;
  for (std::size_t a = 0; a < axes.size(); ++a)
    if (axes[a].dim == static_cast<int>(dim)) found.push_back(a);
  std::stable_sort(found.begin(), found.end(),
                   [&](std::size_t a, std::size_t b) { return axes[a].step > axes[b].step; });
  return found;
}

}  // namespace

WeightMap::WeightMap(Shape parameter, std::vector<Axis> axes, std::vector<std::int64_t> origin)
    : parameter_(std::move(parameter)), axes_(std::move(axes)), origin_(std::move(origin)) {
  HONE_CHECK(origin_.size() == parameter_.dims().size(), "an origin of {} dimensions in a parameter {}",
             origin_.size(), parameter_.str());
  for (const auto& axis : axes_)
    HONE_CHECK(axis.dim >= 0 && axis.dim < parameter_.rank() && axis.step > 0 && axis.begin >= 0 &&
                   axis.size >= 0 && axis.begin + axis.size <= axis.extent,
               "an axis [{}, {}) of {} in steps of {} along dimension {} of {}", axis.begin,
               axis.begin + axis.size, axis.extent, axis.step, axis.dim, parameter_.str());
  if (elements() == 0) return;
  for (std::size_t dim = 0; dim < origin_.size(); ++dim) {
    const auto along = axes_along(axes_, dim);
    std::int64_t span = 1;
    for (auto a = along.rbegin(); a != along.rend(); ++a) {
      HONE_CHECK(axes_[*a].size == 1 || axes_[*a].step >= span,
                 "a step of {} over {} elements of dimension {}", axes_[*a].step, span, dim);
      span = span_of(axes_[*a], span);
    }
    HONE_CHECK(origin_[dim] >= 0 && origin_[dim] + span <= parameter_.dims()[dim],
               "elements [{}, {}) of dimension {} of {}", origin_[dim], origin_[dim] + span, dim,
               parameter_.str());
  }
}

WeightMap WeightMap::whole(const Shape& parameter) {
  std::vector<Axis> axes;
  for (const std::int64_t n : parameter.dims())
    axes.push_back({.extent = n, .begin = 0, .size = n, .dim = static_cast<int>(axes.size()), .step = 1});
  return {parameter, std::move(axes), std::vector<std::int64_t>(parameter.dims().size(), 0)};
}

std::int64_t WeightMap::stored_elements() const {
  return std::accumulate(axes_.begin(), axes_.end(), std::int64_t{1},
                         [](std::int64_t n, const Axis& axis) { return n * axis.extent; });
}

std::int64_t WeightMap::elements() const {
  return std::accumulate(axes_.begin(), axes_.end(), std::int64_t{1},
                         [](std::int64_t n, const Axis& axis) { return n * axis.size; });
}

Region WeightMap::bounds() const {
  Region box{origin_, std::vector<std::int64_t>(origin_.size(), 1)};
  for (const auto& axis : axes_) box.size[static_cast<std::size_t>(axis.dim)] += (axis.size - 1) * axis.step;
  return box;
}

void WeightMap::restrict_dim(std::size_t dim, const std::vector<std::size_t>& axes, std::size_t next,
                             std::int64_t low, std::int64_t high, std::vector<WeightMap>& found) const {
  if (next == axes.size()) {
    if (origin_[dim] >= low && origin_[dim] < high) found.push_back(*this);
    return;
  }
  const Axis& axis = axes_[axes[next]];
  std::int64_t inner = 1;
  for (std::size_t k = axes.size() - 1; k > next; --k) inner = span_of(axes_[axes[k]], inner);
  const auto narrowed = [&](std::int64_t begin, std::int64_t size) {
    WeightMap map = *this;
    map.axes_[axes[next]].begin += begin;
    map.axes_[axes[next]].size = size;
    map.origin_[dim] += begin * axis.step;
    return map;
  };
  const auto clamped = [&](std::int64_t i) { return std::clamp<std::int64_t>(i, 0, axis.size); };
  // Elements of the axis whose span touches [low, high), and among them those that lie in it whole.
  const std::int64_t begin = clamped(floor_div(low - origin_[dim] - inner, axis.step) + 1);
  const std::int64_t end = clamped(ceil_div(high - origin_[dim], axis.step));
  const std::int64_t whole_begin = std::max(begin, clamped(ceil_div(low - origin_[dim], axis.step)));
  const std::int64_t whole_end =
      std::min(end, clamped(floor_div(high - inner - origin_[dim], axis.step) + 1));
  if (whole_begin < whole_end) found.push_back(narrowed(whole_begin, whole_end - whole_begin));
  for (std::int64_t i = begin; i < end; ++i)
    if (i < whole_begin || i >= whole_end) narrowed(i, 1).restrict_dim(dim, axes, next + 1, low, high, found);
}

std::vector<WeightMap> WeightMap::restricted(const Region& region) const {
  if (elements() == 0) return {};
  if (region.size.empty()) return {*this};
  HONE_CHECK(region.begin.size() == origin_.size() && region.size.size() == origin_.size(),
             "a region of {} dimensions of {}", region.size.size(), parameter_.str());
  std::vector<WeightMap> maps{*this};
  for (std::size_t dim = 0; dim < origin_.size(); ++dim) {
    HONE_CHECK(region.begin[dim] >= 0 && region.size[dim] >= 0 &&
                   region.begin[dim] + region.size[dim] <= parameter_.dims()[dim],
               "elements [{}, {}) of dimension {} of {}", region.begin[dim],
               region.begin[dim] + region.size[dim], dim, parameter_.str());
    const auto axes = axes_along(axes_, dim);
    std::vector<WeightMap> found;
    for (const auto& map : maps)
      map.restrict_dim(dim, axes, 0, region.begin[dim], region.begin[dim] + region.size[dim], found);
    maps = std::move(found);
  }
  return maps;
}

MapWalk::MapWalk(const WeightMap& map, const Region& region) {
  const Region held = region.size.empty() ? whole_region(map.parameter()) : region;
  for (const auto& part : map.restricted(region)) boxes_.push_back(make_box(part, held));
  if (boxes_.size() != 1) return;
  const Box& box = boxes_.front();
  is_one_run_ = box.outer.empty() && box.offsets.empty() && box.segments.front().begin == 0 &&
                box.segments.front().end == box.plane;
}

bool MapWalk::touches(std::int64_t first, std::int64_t n) const {
  bool found = false;
  for_each_run(first, n, [&](const Run&) { found = true; });
  return found;
}

MapWalk::Box MapWalk::make_box(const WeightMap& map, const Region& region) {
  std::vector<std::int64_t> strides(region.size.size(), 1);  // of memory, by dimension
  for (std::size_t dim = strides.size(); dim-- > 1;) strides[dim - 1] = strides[dim] * region.size[dim];
  Box box;
  for (std::size_t dim = 0; dim < strides.size(); ++dim)
    box.base += (map.origin_[dim] - region.begin[dim]) * strides[dim];
  std::vector<Axis> axes;
  for (const auto& axis : map.axes_) {
    if (axis.extent == 1) continue;
    const Axis next{axis.extent, axis.begin, axis.size,
                    axis.step * strides[static_cast<std::size_t>(axis.dim)]};
    if (!axes.empty() && next.size == next.extent && axes.back().stride == next.stride * next.extent)
      axes.back() = {axes.back().extent * next.extent, axes.back().begin * next.extent,
                     axes.back().size * next.extent, next.stride};
    else
      axes.push_back(next);
  }
  add_plane(box, axes);
  box.outer = std::move(axes);
  return box;
}

/// Takes the innermost of `axes` into the box's plane.
void MapWalk::add_plane(Box& box, std::vector<Axis>& axes) {
  if (axes.empty()) {
    box.segments = {{0, 1}};
    return;
  }
  const bool is_consecutive = axes.back().stride == 1;
  if (is_consecutive && (axes.back().extent >= kLeastPlane || axes.size() == 1)) {
    box.plane = axes.back().extent;
    box.segments = {{axes.back().begin, axes.back().begin + axes.back().size}};
    axes.pop_back();
    return;
  }
  box.offsets = {0};
  std::vector<bool> inside{true};
  while (!axes.empty() && (box.plane < kLeastPlane || box.plane * axes.back().extent <= kMostPlane)) {
    const Axis axis = axes.back();
    axes.pop_back();
    std::vector<std::int64_t> offsets;
    std::vector<bool> inside_all;
    for (std::int64_t i = 0; i < axis.extent; ++i)
      for (std::size_t j = 0; j < inside.size(); ++j) {
        offsets.push_back((i - axis.begin) * axis.stride + box.offsets[j]);
        inside_all.push_back(inside[j] && i >= axis.begin && i < axis.begin + axis.size);
      }
    box.offsets = std::move(offsets);
    inside = std::move(inside_all);
    box.plane *= axis.extent;
  }
  for (std::int64_t i = 0; i < box.plane; ++i) {
    if (!inside[static_cast<std::size_t>(i)]) continue;
    if (box.segments.empty() || box.segments.back().end != i) box.segments.push_back({i, i});
    ++box.segments.back().end;
  }
}

}  // namespace hone::hub
