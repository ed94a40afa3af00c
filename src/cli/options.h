// Options that several verbs share.
#pragma once

#include <CLI/CLI.hpp>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "base/dtype.h"
#include "data/dataset.h"
#include "model/causal_lm.h"

namespace hone::cli {

/// Refuses numbers below `least`, and what is not a finite number.
CLI::Validator at_least(int least);

/// Of "error", "truncate", "drop", "split".
data::Overlong overlong_of(const std::string& name);

/// Takes a name of the Hugging Face hub for its directory in the local cache (hub/hub_cache.h).
CLI::Validator cached_model();

/// --json: the verb then prints one JSON object on stdout, by print_json, and nothing else there.
void add_json_to(CLI::App& verb, bool& json);
/// One line. Bytes that are not UTF-8 are replaced.
void print_json(const nlohmann::ordered_json& row);

/// While it lives, what is printed to stdout goes to stderr: a verb that speaks as it goes leaves stdout to
/// its JSON.
class StdoutToStderr {
 public:
  StdoutToStderr();
  ~StdoutToStderr();
  StdoutToStderr(const StdoutToStderr&) = delete;
  StdoutToStderr& operator=(const StdoutToStderr&) = delete;

 private:
  int stdout_ = -1;
};

/// --dtype f32|bf16, --device cpu|cuda[:N] and --threads N.
struct ComputeOptions {
  std::string dtype = "auto";
  std::string device;  // "": device::default_device()
  int threads = 0;

  void add_to(CLI::App& verb) {
    verb.add_option("--dtype", dtype, "what to compute in: f32, bf16, or auto (the checkpoint's own)")
        ->check(CLI::IsMember({"f32", "bf16", "auto"}))
        ->capture_default_str();
    verb.add_option(
        "--device", device,
        "what computes: cpu, cuda (the first NVIDIA card), cuda:N; default: HONE_DEVICE, else cpu");
    add_threads_to(verb);
  }
  void add_threads_to(CLI::App& verb) {
    verb.add_option("--threads", threads, "CPU threads; 0: one per core")
        ->check(CLI::Range(0, 4096))
        ->capture_default_str();
  }
  std::optional<DType> compute_dtype() const { return dtype == "auto" ? std::nullopt : parse_dtype(dtype); }
  /// A context on --device. Throws Error(kUser) where that is none.
  ops::Context context() const;
  /// The checkpoint in --dtype, with progress on stderr where reading it takes long.
  model::CausalLM load(ops::Context& context, const std::string& model) const;
};

}  // namespace hone::cli
