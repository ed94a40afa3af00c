// Rotary tables: the cos and sin that a batch's positions need.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "ops/rope.h"

namespace hone::model {

/// Rotary position embedding (config.json's rope_parameters, or rope_theta and rope_scaling of older files).
struct RopeSpec {
  std::string type = "default";  // default, linear, dynamic, llama3, yarn, longrope
  double theta = 10000.0;
  std::int64_t rotary_dim = 0;  // elements of a head that are rotated
  double factor = 1.0;
  double low_freq_factor = 1.0, high_freq_factor = 4.0;     // llama3
  std::int64_t original_max_positions = 0;                  // llama3, yarn, longrope
  std::int64_t max_positions = 0;                           // dynamic: the length from which the base grows
  double attention_factor = 1.0;                            // cos and sin are multiplied by it
  double beta_fast = 32.0, beta_slow = 1.0;                 // yarn
  bool truncate = true;                                     // yarn
  std::vector<double> short_factor = {}, long_factor = {};  // longrope: rotary_dim / 2 each
};

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
