// What mixers that attend remember of earlier tokens: their keys and values.
#pragma once

#include <memory>

#include "model/mixers/mixer.h"

namespace hone::model {

/// Room for the keys (rows, key_width) T and values (rows, value_width) T of all sequences together.
std::unique_ptr<MixerState> make_keys_values(ops::Context& context, DType dtype, std::int64_t rows,
                                             std::int64_t key_width, std::int64_t value_width);

/// Where a pass continues sequences: puts the new k and v behind those that are held for `mixer`, whose state
/// make_keys_values() made, and leaves all of them in k and v. Returns the layout of the queries in them: the
/// pass's own where the documents begin here.
ops::SequenceLayout continue_keys_values(ops::Context& context, const Mixer& mixer, const Pass& pass,
                                         Tensor& k, Tensor& v);

}  // namespace hone::model
