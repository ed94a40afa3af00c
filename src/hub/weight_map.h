// Where the elements of a stored tensor lie in a parameter: transposed, interleaved, stacked, cut out. One
// description for loading, saving, and for memory that holds only a region of the parameter.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/shape.h"

namespace hone::hub {

/// A box of a tensor's elements: of dimension d, those from begin[d] to begin[d] + size[d]. Without
/// dimensions: all of them.
struct Region {
  std::vector<std::int64_t> begin, size;
};

/// A map from a box of a stored tensor onto a box of a parameter, both row-major. The stored tensor's
/// dimensions, outermost first, are cut into axes, each of which runs along one dimension of the parameter in
/// steps: (E, hidden, 2 * ffn) with gate and up alternating is axes of E, hidden, ffn and 2 elements, the
/// last with a step of ffn, along dimensions 0, 2, 1 and 1 of a parameter (E, 2 * ffn, hidden).
class WeightMap {
 public:
  struct Axis {
    std::int64_t extent = 1;           ///< in the stored tensor; the extents multiply to its elements
    std::int64_t begin = 0, size = 1;  ///< the part of it that belongs to the parameter
    int dim = 0;                       ///< of the parameter
    std::int64_t step = 1;             ///< in that dimension, from one element of the axis to the next
  };

  /// Of no element.
  WeightMap() = default;
  /// origin: where in the parameter the box begins. Throws Error(kInternal) where the box leaves the
  /// parameter, or axes of one dimension meet an element twice (each step must pass what those of smaller
  /// steps span).
  WeightMap(Shape parameter, std::vector<Axis> axes, std::vector<std::int64_t> origin);
  /// A tensor stored as the parameter is.
  static WeightMap whole(const Shape& parameter);

  const Shape& parameter() const { return parameter_; }
  /// Elements of the stored tensor, and how many of them the parameter has.
  std::int64_t stored_elements() const;
  std::int64_t elements() const;
  bool takes_all() const { return elements() == stored_elements(); }
  const std::vector<Axis>& axes() const { return axes_; }

  /// The smallest box of the parameter that has all of its elements.
  Region bounds() const;

  /// The parts of this map whose elements lie in a region of the parameter: at most 2 k - 1 for each
  /// dimension along which k axes run.
  std::vector<WeightMap> restricted(const Region& region) const;

 private:
  friend class MapWalk;
  void restrict_dim(std::size_t dim, const std::vector<std::size_t>& axes, std::size_t next, std::int64_t low,
                    std::int64_t high, std::vector<WeightMap>& found) const;
  Shape parameter_;
  std::vector<Axis> axes_;
  std::vector<std::int64_t> origin_;
};

/// A map made ready to be walked in the order of the stored elements, over memory that holds `region` of the
/// parameter, row-major. Keeps a table of at most 16,384 offsets (more only where one axis is longer).
class MapWalk {
 public:
  MapWalk() = default;
  explicit MapWalk(const WeightMap& map, const Region& region = {});

  /// Consecutive elements of the stored tensor.
  struct Run {
    std::int64_t stored = 0;  ///< the first one
    std::int64_t memory = 0;  ///< where in memory the offsets count from, in elements
    const std::int64_t* offsets =
        nullptr;  ///< of each one; null: they are consecutive in memory too, from `memory` on
    std::int64_t count = 0;
  };
  /// Calls f(Run) for all elements in memory among the stored ones [first, first + n).
  template <typename F>
  void for_each_run(std::int64_t first, std::int64_t n, F&& f) const {
    for (const auto& box : boxes_) walk(box, first, n, f);
  }
  /// Whether any of the stored elements [first, first + n) is in memory.
  bool touches(std::int64_t first, std::int64_t n) const;
  /// All stored elements are in memory, consecutive and in order.
  bool is_one_run() const { return is_one_run_; }

 private:
  struct Axis {
    std::int64_t extent, begin, size, stride;
  };
  struct Segment {
    std::int64_t begin, end;  // in the plane
  };
  struct Box {
    std::vector<Axis> outer;            // of the planes
    std::int64_t plane = 1;             // stored elements of a plane: the innermost axes
    std::int64_t base = 0;              // in memory, of the box's first element
    std::vector<Segment> segments;      // of a plane, that belong to the box
    std::vector<std::int64_t> offsets;  // of a plane's elements; empty: consecutive from the one segment on
  };
  static Box make_box(const WeightMap& map, const Region& region);
  static void add_plane(Box& box, std::vector<Axis>& axes);

  template <typename F>
  static void walk(const Box& box, std::int64_t first, std::int64_t n, F& f) {
    for (std::int64_t p = first / box.plane; n > 0 && p <= (first + n - 1) / box.plane; ++p) {
      std::int64_t memory = box.base;
      bool inside = true;
      std::int64_t rest = p;
      for (auto axis = box.outer.rbegin(); axis != box.outer.rend() && inside; ++axis) {
        const std::int64_t i = rest % axis->extent - axis->begin;
        rest /= axis->extent;
        inside = i >= 0 && i < axis->size;
        memory += i * axis->stride;
      }
      if (!inside) continue;
      const std::int64_t low = std::max<std::int64_t>(first - p * box.plane, 0);
      const std::int64_t high = first + n - p * box.plane;
      for (const auto& segment : box.segments) {
        const std::int64_t begin = std::max(segment.begin, low);
        const std::int64_t end = std::min(segment.end, high);
        if (begin >= end) continue;
        if (box.offsets.empty())
          f(Run{p * box.plane + begin, memory + begin - segment.begin, nullptr, end - begin});
        else
          f(Run{p * box.plane + begin, memory, box.offsets.data() + begin, end - begin});
      }
    }
  }

  std::vector<Box> boxes_;
  bool is_one_run_ = false;
};

}  // namespace hone::hub
