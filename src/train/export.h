// A checkpoint of a run (f32 masters, moments) as a Hugging Face directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "model/causal_lm.h"

namespace hone::train {

struct ExportOptions {
  std::filesystem::path from;  // a run's directory, or one checkpoint (checkpoints/step-N)
  std::filesystem::path out;   // must not exist, or be empty
  std::string step = "last";   // of a run: "last", "best" (least evaluation loss), or a number
  std::optional<DType>
      dtype;  // to store parameters as: f32, bf16, f16; nullopt: as the base model stores each
  std::filesystem::path base;  // the base model's directory; "": where the run's recipe has it
  std::function<void(double share)> progress = nullptr;  // of the weights written, 0 to 1
};

struct ExportReport {
  std::filesystem::path checkpoint, base;
  std::int64_t step = 0;
  std::optional<double> eval_loss;  // where this is the best step
  std::int64_t parameters = 0;      // elements
  std::uint64_t bytes = 0;          // of weights written
  std::int64_t from_base = 0;       // tensors whose bytes are the base model's: frozen, or not computed with
  bool base_changed =
      false;  // the base is not the one the run began with, and nothing of its weights was used
  model::CausalLM::SaveReport saved;
};

/// Writes `out` as the end of a run writes its model/: every tensor under the key, layout, dtype and shard of
/// the base model, with the checkpoint's values; all other files are the base model's. Holds no weights in
/// memory. Throws Error(kUser) with nothing written where there is no such checkpoint, its bytes are not
/// those that were written, the base model is missing, or is another one and some of its weights would be
/// mixed in.
ExportReport export_checkpoint(const ExportOptions& options);

}  // namespace hone::train
