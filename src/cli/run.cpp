#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"
#include "cli/verbs.h"

namespace hone::cli {

namespace {

constexpr std::size_t kLongestMessage = 600;

/// The last line on stderr, one line whatever the message holds.
int report(const char* kind, std::string message, int code) {
  for (char& c : message)
    if (c == '\n' || c == '\r') c = ' ';
  const std::string text = fmt::format("hone: {}: {}", kind, message);
  std::size_t end = std::min(text.size(), kLongestMessage);
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U)
    --end;  // whole characters
  std::fflush(stdout);
  fmt::print(stderr, "{}\n", text.substr(0, end));
  return code;
}

/// The first argument that nobody takes, with the nearest one that somebody does; "" where all were taken.
/// (CLI11 would rather complain about what is missing than about the misspelt word that was meant to be it.)
std::string unknown_argument(const CLI::App& app) {
  const auto extras = app.remaining(true);
  if (extras.empty()) return "";
  const CLI::App* verb = &app;
  while (!verb->get_subcommands().empty()) verb = verb->get_subcommands().front();
  const std::string word = extras.front().substr(0, extras.front().find('='));
  const auto verbs = verb->get_subcommands([](const CLI::App*) { return true; });
  std::vector<std::string> known;
  if (word.starts_with('-')) {
    if (verb->get_name() == "train" && word.find('.') != std::string::npos)
      return fmt::format("unknown option {}; recipe keys go without dashes: {}", word,
                         extras.front().substr(extras.front().find_first_not_of('-')));
    for (const auto* option : verb->get_options())
      for (const auto& name : option->get_lnames()) known.push_back("--" + name);
    return fmt::format("unknown option {}{}", word, suggestion(word, known));
  }
  for (const auto* v : verbs) known.push_back(v->get_name());
  if (known.empty()) return fmt::format("unexpected argument '{}'", word);
  return fmt::format("unknown verb '{}'{}", word, suggestion(word, known));
}

}  // namespace

int run(int argc, const char* const* argv) {
  CLI::App app{
      "hone fine-tunes Hugging Face checkpoints, mixture-of-experts first. A Hugging Face directory goes in "
      "and comes out."};
  app.name("hone");
  app.require_subcommand(1);
  app.footer(
      "\nhone VERB --help says the rest. To begin: `hone train --help` shows a recipe, `hone check RECIPE` "
      "what would "
      "be\nlearnt from, `hone train RECIPE` trains, `hone generate MODEL --prompt …` asks.\n");
  app.set_version_flag("--version", "hone " HONE_VERSION);
  app.failure_message([](const CLI::App*, const CLI::Error& e) { return std::string(e.what()); });
  for (auto* add : {add_train, add_generate, add_eval, add_check, add_tokenize, add_logits, add_inspect,
                    add_export, add_init, add_bench, add_doctor})
    add(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::Success& e) {  // --help, --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    const std::string unknown = unknown_argument(app);
    return report("error", (unknown.empty() ? std::string(e.what()) : unknown) + " (see hone --help)", 2);
  } catch (const Error& e) {
    return e.kind() == ErrorKind::kUser ? report("error", e.what(), 2)
                                        : report("internal error", e.what(), 1);
  } catch (const std::bad_alloc&) {
    return report("error", "out of memory; use a smaller micro_batch or seq_len", 2);
  } catch (const std::filesystem::filesystem_error& e) {
    return report("error", e.what(), 2);
  } catch (const std::exception& e) {
    return report("internal error", e.what(), 1);
  }
}

}  // namespace hone::cli
