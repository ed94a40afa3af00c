// hone generate: what a checkpoint answers.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "model/causal_lm.h"
#include "model/generate.h"
#include "text/pretrained_tokenizer.h"

namespace hone::cli {

namespace {

struct GenerateOptions {
  std::string model, prompt, system;
  bool raw = false, json = false, keep_special = false;
  model::GenerationOptions generation;
  ComputeOptions compute;
};

std::vector<std::int32_t> prompt_ids(const GenerateOptions& options,
                                     const text::PretrainedTokenizer& tokenizer) {
  std::string prompt = options.prompt;
  if (prompt == "-") prompt.assign(std::istreambuf_iterator<char>(std::cin), {});
  if (options.raw) return tokenizer.tokenizer().encode(prompt).ids;
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  if (!options.system.empty()) messages.push_back({{"role", "system"}, {"content", options.system}});
  messages.push_back({{"role", "user"}, {"content", prompt}});
  text::ChatOptions chat;
  chat.add_generation_prompt = true;
  const auto rendered = tokenizer.apply_chat_template(messages, nullptr, chat);
  return tokenizer.tokenizer().encode(rendered.text, false).ids;
}

void run(GenerateOptions options) {
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(options.model);
  const auto ids = prompt_ids(options, tokenizer);
  auto context = options.compute.context();
  auto model = options.compute.load(context, options.model);
  for (const auto id : tokenizer.eos_token_ids()) options.generation.stop_ids.push_back(id);

  text::StreamDecoder decoder(tokenizer.tokenizer(), !options.keep_special);
  std::string answer;
  const auto emit = [&](const std::string& text) {
    answer += text;
    if (options.json) return;
    fmt::print("{}", text);
    std::fflush(stdout);
  };
  const auto generated =
      model::generate(context, model.decoder(), {ids}, options.generation, [&](std::size_t, std::int32_t id) {
        emit(decoder.push(id));
        return true;
      });
  emit(decoder.finish());
  if (options.json)
    print_json({{"text", answer}, {"ids", generated.at(0)}, {"prompt_ids", ids}});
  else
    fmt::print("\n");
}

}  // namespace

void add_generate(CLI::App& app) {
  auto options = std::make_shared<GenerateOptions>();
  auto& g = options->generation;
  CLI::App* verb = app.add_subcommand(
      "generate", "answer a prompt, greedily or sampled, through the model's chat template");
  verb->add_option("MODEL", options->model,
                   "a Hugging Face checkpoint directory, or a hub name that is cached")
      ->required()
      ->transform(cached_model());
  verb->add_option("--prompt", options->prompt, "what the user says; -: read it from standard input")
      ->required();
  auto* system = verb->add_option("--system", options->system, "a system message");
  verb->add_flag("--raw", options->raw, "continue the prompt as plain text, without the chat template")
      ->excludes(system);
  verb->add_option("--max-new-tokens", g.max_new_tokens, "tokens at most")
      ->check(at_least(1))
      ->capture_default_str();
  auto* temperature = verb->add_option("--temperature", g.temperature, "0: greedy")
                          ->check(at_least(0))
                          ->capture_default_str();
  verb->add_option("--top-k", g.top_k, "sample among the k likeliest tokens; 0: all")
      ->needs(temperature)  // greedy answers know neither these nor a seed
      ->check(at_least(0))
      ->capture_default_str();
  verb->add_option("--top-p", g.top_p, "sample among the fewest tokens with this probability")
      ->needs(temperature)
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--seed", g.seed, "of the sampling")->needs(temperature)->capture_default_str();
  verb->add_flag("--special", options->keep_special, "print special tokens too");
  add_json_to(*verb, options->json);
  options->compute.add_to(*verb);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
