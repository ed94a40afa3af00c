#include "data/source_reader.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <limits>

#include "base/error.h"
#include "base/team.h"
#include "data/data_files.h"
#include "data/rows.h"
#include "data/token_cache.h"

namespace hone::data {

namespace {

constexpr std::size_t kBlockRows = 16384;
constexpr std::size_t kBlockBytes = std::size_t{16} << 20;

/// Rows that are read before they are tokenised.
struct Block {
  std::string bytes;                  // their JSON, one after another
  std::vector<std::size_t> ends;      // in `bytes`
  std::vector<std::int64_t> numbers;  // RowSource::line

  /// Takes the next rows of a file, `most` at most; false where there are none.
  bool read(RecordReader& file, std::int64_t most) {
    bytes.clear();
    ends.clear();
    numbers.clear();
    const auto rows = static_cast<std::size_t>(std::min<std::int64_t>(kBlockRows, most));
    for (Record record; ends.size() < rows && bytes.size() < kBlockBytes && file.next(record);) {
      bytes += record.json;
      ends.push_back(bytes.size());
      numbers.push_back(record.number);
    }
    return !ends.empty();
  }
  std::string_view row(std::size_t i) const {
    const std::size_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(bytes).substr(begin, ends[i] - begin);
  }
};

/// How far the reading of all files is, in bytes and rows.
struct Meter {
  const Dataset::Progress& progress;
  std::int64_t bytes = 0, bytes_before = 0, rows = 0;

  void report(double share_of_file, std::int64_t file_bytes) const {
    if (!progress) return;
    const double done = static_cast<double>(bytes_before) + share_of_file * static_cast<double>(file_bytes);
    progress(rows, bytes > 0 ? std::min(1.0, done / static_cast<double>(bytes)) : 0.0);
  }
};

/// What is known of a file's rows beside their tokens, as notes of a TokenFile.
std::string notes_of(const SourceFile& file) {
  Json entries = Json::array();
  for (const auto& e : file.report.entries())
    entries.push_back({static_cast<int>(e.kind), e.what, e.count, e.rows, e.first.line, e.place,
                       e.weights.least, e.weights.largest});
  return Json{{"rows", file.rows}, {"report", std::move(entries)}}.dump(-1, ' ', false,
                                                                        Json::error_handler_t::replace);
}

void take_notes(SourceFile& file) {
  const Json notes = Json::parse(file.tokens->notes());
  file.rows = notes["rows"].get<std::int64_t>();
  for (const Json& e : notes["report"]) {
    Report::Entry entry{static_cast<FindingKind>(e[0].get<int>()), e[1], e[2], e[3], file.place, e[5], {}};
    entry.first.line = e[4].get<std::int64_t>();
    if (e[6].is_number()) entry.weights = {e[6], e[7]};  // JSON has no infinities: null
    file.report.add(entry);
  }
}

std::vector<TokenizedRow> tokenize(const Block& block, const RecordReader& file,
                                   const RowTokenizer& tokenizer, Team& team) {
  const auto count = static_cast<std::int64_t>(block.ends.size());
  std::vector<TokenizedRow> rows(block.ends.size());
  std::vector<std::exception_ptr> errors(rows.size());
  std::atomic<std::int64_t> first_error{count};  // rows behind it need not be looked at
  // Long documents are given out one by one, or the last would be waited for.
  const auto chunk = std::clamp<std::int64_t>(count / 1024, 1, 8);
  const auto tokenize_row = [&](std::int64_t i, int) {
    if (i > first_error.load(std::memory_order_relaxed)) return;
    const auto at = static_cast<std::size_t>(i);
    try {
      rows[at] = tokenizer.tokenize(block.row(at), file.source(block.numbers[at]).where());
    } catch (...) {
      errors[at] = std::current_exception();
      std::int64_t known = first_error.load();
      while (i < known && !first_error.compare_exchange_weak(known, i)) {
      }
    }
  };
  team.parallel_for(team.num_threads(), count, tokenize_row, chunk);
  if (const auto first = first_error.load(); first < count)
    std::rethrow_exception(errors[static_cast<std::size_t>(first)]);
  return rows;
}

}  // namespace

std::vector<SourceFiles> read_sources(const std::vector<DataSource>& sources, const std::string& split,
                                      const text::PretrainedTokenizer* tokenizer,
                                      const DatasetOptions& options, const Dataset::Progress& progress) {
  struct Job {
    std::size_t source;
    std::string path;
  };
  std::vector<SourceFiles> result;
  std::vector<Job> jobs;
  Meter meter{progress};
  for (const auto& source : sources) {
    for (auto& path : find_data_files(source.path, source.split.empty() ? split : source.split)) {
      std::error_code ignored;
      if (std::filesystem::is_regular_file(path, ignored))  // a pipe can be read once
        meter.bytes +=
            RecordReader::open(path, source.format)->size();  // what cannot be read is said at once
      jobs.push_back({result.size(), std::move(path)});
    }
    result.push_back({source, {}});
  }
  const TokenCache cache(options.cache, tokenizer);
  Team team(options.threads);
  std::int64_t left = 0;
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    SourceFiles& into = result[jobs[i].source];
    const DataSource& source = into.source;
    if (i == 0 || jobs[i - 1].source != jobs[i].source)
      left = source.max_rows.value_or(std::numeric_limits<std::int64_t>::max());
    if (left == 0) continue;
    const TokenizeOptions how{.for_training = options.for_training,
                              .vocab = options.vocab,
                              .now = options.now,
                              .columns = source.columns};
    const auto reader = RecordReader::open(jobs[i].path, source.format);
    const auto check_stop = [&] { meter.report(0, 0); };
    auto entry = cache.find(jobs[i].path, source, left, how, check_stop);
    SourceFile file;
    file.place = reader->source(0);
    if (entry.tokens) {
      file.cached = true;
      file.tokens = std::move(entry.tokens);
      take_notes(file);
      meter.rows += file.rows;
    } else {
      TokenWriter writer(entry.path);
      const RowTokenizer rows(tokenizer, how);
      for (Block block; block.read(*reader, left - file.rows);) {
        auto tokens = tokenize(block, *reader, rows, team);
        for (std::size_t row = 0; row < tokens.size(); ++row) {
          auto& findings = tokens[row].findings;
          if (!tokens[row].no_target.empty() && (options.for_training || tokens[row].ids.empty()))
            findings.push_back({FindingKind::kNoTarget, tokens[row].no_target});
          if (!findings.empty()) file.report.add(findings, reader->source(block.numbers[row]));
          writer.add(tokens[row], block.numbers[row]);
        }
        file.rows += static_cast<std::int64_t>(tokens.size());
        meter.rows += static_cast<std::int64_t>(tokens.size());
        meter.report(reader->share(), reader->size());
      }
      cache.check_unchanged(entry);
      file.tokens = writer.finish(entry.key, notes_of(file));
      cache.clean();
    }
    left -= file.rows;
    meter.bytes_before += reader->size();
    meter.report(0, 0);
    into.files.push_back(std::move(file));
  }
  return result;
}

}  // namespace hone::data
