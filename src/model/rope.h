// Rotary tables: the cos and sin that a batch's positions need.
#pragma once

#include <span>
#include <vector>

#include "model/spec.h"
#include "ops/rope.h"

namespace hone::model {

/// Inverse frequencies, rotary_dim / 2 of them, for a document of `length` tokens (only dynamic and longrope
/// depend on it). As Transformers' modeling_rope_utils.
std::vector<float> inverse_frequencies(const RopeSpec& spec, std::int64_t length);

/// The tables of one model. dynamic and longrope choose their frequencies by the document's length, so a
/// table may hold several regions, and a position is a row of the table rather than a place in the document.
class RotaryTables {
 public:
  explicit RotaryTables(RopeSpec spec) : spec_(std::move(spec)) {}

  struct Prepared {
    ops::RotaryTable table;
    Tensor positions;  // (tokens) i32: a row of the table for every token
  };
  /// For documents of these lengths, laid end to end, the first token of document i being at place first[i]
  /// of it (0 unless a cache holds the earlier ones; empty: all 0). Frequencies that depend on the length go
  /// by first[i] + lengths[i]; as in Transformers, keys in a cache stay as they were turned.
  Prepared prepare(ops::Context& context, std::span<const std::int32_t> lengths,
                   std::span<const std::int32_t> first = {});

 private:
  struct Region {
    std::int64_t variant;  // which frequencies: 0, or what spec_.type makes of a length
    std::int64_t begin;    // first row
    std::int64_t rows;
  };
  std::int64_t variant_of(std::int64_t length) const;
  void rebuild(ops::Context& context);

  RopeSpec spec_;
  std::vector<Region> regions_;
  ops::RotaryTable table_;
};

}  // namespace hone::model
