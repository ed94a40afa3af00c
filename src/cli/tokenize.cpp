// hone tokenize: text and chats to token ids, and back, as training and generation see them.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/console.h"
#include "base/error.h"
#include "base/file.h"
#include "cli/options.h"
#include "cli/verbs.h"
#include "data/records.h"
#include "data/tokenize.h"
#include "text/pretrained_tokenizer.h"

namespace hone::cli {

namespace {

struct TokenizeVerb {
  std::string model, in, out;
  bool generation_prompt = false, no_special = false, json = false;
};

nlohmann::ordered_json to_json(const data::TokenizedRow& row) {
  nlohmann::ordered_json json;
  if (row.kind != data::RowKind::kText) json["text"] = row.text;
  if (row.kind == data::RowKind::kTokens) return json;
  json["input_ids"] = row.ids;
  if (row.kind != data::RowKind::kText) json["labels"] = row.labels;
  if (!row.weights.empty()) json["loss_weights"] = row.weights;
  return json;
}

void run(const TokenizeVerb& options) {
  const auto tokenizer = text::PretrainedTokenizer::from_pretrained(options.model);
  // Text as tokenizer(text) has it: no EOS that the post-processor does not add. A chat and a completion as
  // training sees them.
  const data::RowTokenizer rows(&tokenizer, {.special_tokens = !options.no_special,
                                             .eos = false,
                                             .generation_prompt = options.generation_prompt,
                                             .decode = true});
  const auto file = data::RecordReader::open(options.in);
  std::string out;
  Progress progress("tokenizing");
  std::int64_t count = 0;
  std::int64_t tokens = 0;
  data::Report report;
  for (data::Record record; file->next(record);) {
    const auto source = file->source(record.number);
    const auto row = rows.tokenize(record.json, source.where());
    tokens += static_cast<std::int64_t>(row.ids.size());
    report.add(row.findings, source);
    out += to_json(row).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    progress.update(file->share(), with_commas(++count) + " rows");
  }
  write_file_atomically(options.out, out);
  for (const auto& line : data::describe(report, data::Severity::kNotice)) fmt::print(stderr, "{}\n", line);
  if (options.json) print_json({{"out", options.out}, {"rows", count}, {"tokens", tokens}});
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<TokenizeVerb>();
  CLI::App* verb = app.add_subcommand(
      "tokenize", "turn JSONL rows of text or messages into token ids, and rows of token ids into text");
  verb->add_option("MODEL", options->model,
                   "a directory with tokenizer.json (and tokenizer_config.json, chat_template.jinja), or a "
                   "hub name that is cached")
      ->required()
      ->transform(cached_model());
  verb->add_option("--in", options->in,
                   "rows (JSONL, a JSON array, CSV, TSV, Parquet; gzip or zstd): {\"text\"}, {\"messages\", "
                   "\"tools\"?}, {\"prompt\", \"completion\"} or "
                   "{\"input_ids\"}")
      ->required();
  verb->add_option(
          "--out", options->out,
          "JSONL to write: text gives input_ids, without the EOS that ends it in training; a chat, or a "
          "prompt with its completion, gives text, input_ids and labels (-100: not learnt from) as "
          "training sees them, and loss_weights where the row has some; input_ids give text")
      ->required();
  verb->add_flag("--generation-prompt", options->generation_prompt,
                 "end chats with the template's generation prompt");
  verb->add_flag("--no-special", options->no_special,
                 "leave out the special tokens that the post-processor adds to text");
  add_json_to(*verb, options->json);
  verb->callback([options] { run(*options); });
}

}  // namespace hone::cli
