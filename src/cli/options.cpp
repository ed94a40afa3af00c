#include "cli/options.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <optional>

#include "base/console.h"
#include "hub/hub_cache.h"

namespace hone::cli {

CLI::Validator at_least(int least) {
  return CLI::Validator(
      [least](std::string& text) {
        double value = 0;
        return CLI::detail::lexical_cast(text, value) && std::isfinite(value) && value >= least
                   ? std::string()
                   : fmt::format("is {}, expected a number of at least {}", text, least);
      },
      fmt::format(">= {}", least));
}

data::Overlong overlong_of(const std::string& name) {
  return name == "error"   ? data::Overlong::kError
         : name == "drop"  ? data::Overlong::kDrop
         : name == "split" ? data::Overlong::kSplit
                           : data::Overlong::kTruncate;
}

CLI::Validator cached_model() {
  return CLI::Validator(
      [](std::string& model) {
        model = hub::resolve_model(model).string();
        return std::string();
      },
      "");
}

void add_json_to(CLI::App& verb, bool& json) {
  verb.add_flag("--json", json, "print one JSON object, and progress on stderr alone");
}

void print_json(const nlohmann::ordered_json& row) {
  fmt::print("{}\n", row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

StdoutToStderr::StdoutToStderr() {
  std::fflush(stdout);
  stdout_ = ::dup(STDOUT_FILENO);
  if (stdout_ >= 0) ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

StdoutToStderr::~StdoutToStderr() {
  std::fflush(stdout);
  if (stdout_ < 0) return;
  ::dup2(stdout_, STDOUT_FILENO);
  ::close(stdout_);
}

ops::Context ComputeOptions::context() const {
  return ops::Context(device.empty() ? device::default_device() : device::parse_device(device), threads);
}

model::CausalLM ComputeOptions::load(ops::Context& context, const std::string& model) const {
  Progress progress("reading weights");
  return model::CausalLM::from_pretrained(
      context, model,
      {.dtype = compute_dtype(), .progress = [&](double share) { progress.update(share, ""); }});
}

}  // namespace hone::cli
