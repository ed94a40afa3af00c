#include "data/dataset.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "base/content_hash.h"
#include "base/error.h"
#include "data/mixture.h"
#include "data/packing.h"
#include "data/source_reader.h"

namespace hone::data {

namespace {

/// The stream of random numbers that places rows of one length into packs; epochs count up from 0, and where
/// each has packs of its own their streams count down from here.
constexpr std::uint64_t kPackingStream = ~std::uint64_t{0};

/// An example: a row of a file, or a part of one.
struct Item {
  std::uint32_t file = 0;
  std::uint32_t row = 0;
  std::uint32_t begin = 0, length = 0;  // in tokens
};

/// A file, and of which source it is.
struct File {
  SourceFile content;
  std::int32_t source = 0;
};

/// What an epoch holds, and in which order.
struct Epoch {
  /// The examples, where they are not simply all.
  std::optional<std::vector<std::int64_t>> examples;
  std::optional<Packs> packs;  // of places in `examples`; nothing: every example is a pack of its own
  std::int64_t num_packs = 0;
};

/// Which side of a holdout.
enum class Side { kKept, kHeld };

/// From rows to examples: which are kept, and how much of each.
class Selection {
 public:
  Selection(const std::vector<SourceFiles>& sources, const DatasetOptions& options, Side side)
      : sources_(sources), options_(options), side_(side) {}

  void run();
  /// Throws where rows are too long for the policy, or a source has none left.
  void check() const;

  std::vector<File> files;
  std::vector<Item> items;
  std::vector<MixturePart> parts;
  DatasetStatistics statistics;

 private:
  void add(const TokenRow& row, std::uint32_t index);
  void add_item(const TokenRow& row, Item item);

  const std::vector<SourceFiles>& sources_;
  const DatasetOptions& options_;
  Side side_;
  std::optional<RowSource> first_overlong_;
  bool first_overlong_is_text_ = false;
  std::int64_t first_overlong_length_ = 0, overlong_ = 0;
};

void Selection::run() {
  constexpr std::int64_t kRowsAtOnce = 4096;
  std::vector<TokenRow> rows;
  for (std::size_t s = 0; s < sources_.size(); ++s) {
    statistics.sources.push_back({.path = sources_[s].source.path});
    parts.push_back({.first = static_cast<std::int64_t>(items.size())});
    for (const auto& file : sources_[s].files) {
      files.push_back({file, static_cast<std::int32_t>(s)});
      ++statistics.files;
      statistics.report.add(file.report);
      if (options_.on_dropped == OnDropped::kIgnore) statistics.report.leave_out(Severity::kDropped);
      statistics.cached_files += file.cached ? 1 : 0;
      HONE_CHECK(file.tokens->size() <= std::numeric_limits<std::uint32_t>::max(), "{} rows in a file",
                 file.tokens->size());
      for (std::int64_t at = 0; at < file.tokens->size(); at += kRowsAtOnce) {
        rows.resize(static_cast<std::size_t>(std::min(kRowsAtOnce, file.tokens->size() - at)));
        file.tokens->read_rows(at, rows);
        for (std::size_t i = 0; i < rows.size(); ++i)
          add(rows[i], static_cast<std::uint32_t>(at) + static_cast<std::uint32_t>(i));
      }
    }
    parts.back().count = static_cast<std::int64_t>(items.size()) - parts.back().first;
    statistics.sources.back().examples = parts.back().count;
  }
  items.shrink_to_fit();
}

void Selection::add(const TokenRow& row, std::uint32_t index) {
  const bool is_row = (row.flags & TokenRow::kPart) == 0;
  statistics.rows += is_row ? 1 : 0;
  statistics.sources.back().rows += is_row ? 1 : 0;
  if (options_.holdout.holds(row.content) != (side_ == Side::kHeld)) {
    statistics.held_out += is_row ? 1 : 0;
    return;
  }
  statistics.longest = std::max<std::int64_t>(statistics.longest, row.length);
  if (row.length == 0 || (options_.for_training && row.supervised == 0)) {
    ++statistics.without_target;
    return;
  }
  const auto seq_len = static_cast<std::uint32_t>(
      std::min<std::int64_t>(options_.seq_len, std::numeric_limits<std::uint32_t>::max()));
  Item item{static_cast<std::uint32_t>(files.size() - 1), index, 0, row.length};
  if (row.length <= seq_len) return add_item(row, item);
  if (options_.overlong == Overlong::kDrop) {
    ++statistics.dropped;
    return;
  }
  if (options_.overlong == Overlong::kTruncate) {
    ++statistics.truncated;
    item.length = seq_len;
    return add_item(row, item);
  }
  if (options_.overlong == Overlong::kSplit && (row.flags & TokenRow::kText) != 0) {
    ++statistics.split;
    for (; item.begin < row.length; item.begin += seq_len) {
      item.length = std::min(seq_len, row.length - item.begin);
      add_item(row, item);
    }
    return;
  }
  if (!first_overlong_) {
    first_overlong_ = files.back().content.place;
    first_overlong_->line = row.number;
    first_overlong_length_ = row.length;
    first_overlong_is_text_ = (row.flags & TokenRow::kText) != 0;
  }
  ++overlong_;
}

void Selection::add_item(const TokenRow& row, Item item) {
  std::int64_t supervised = row.supervised;
  if (item.length != row.length) {
    const Example part = files.back().content.tokens->example(row, item.begin, item.length);
    supervised = static_cast<std::int64_t>(part.labels.size()) - 1 -
                 std::count(part.labels.begin() + 1, part.labels.end(), kIgnoredLabel);
    if (supervised == 0 && row.supervised > 0) {  // the last token of a text alone, too
      ++statistics.emptied;
      return;
    }
  }
  statistics.tokens += item.length;
  statistics.sources.back().tokens += item.length;
  statistics.supervised += supervised;
  ++statistics.examples;
  items.push_back(item);
}

void Selection::check() const {
  const auto& s = statistics;
  for (std::size_t i = 0; i < s.sources.size(); ++i)
    if (s.sources[i].rows == 0 && sources_[i].source.max_rows != 0)
      fail("{}: the data has no rows (blank lines are skipped)", s.sources[i].path);
  if (overlong_ > 0)
    fail(
        "{}: {} tokens, longer than data.seq_len {}; {} of {} rows are, up to {} tokens; raise "
        "data.seq_len, or set data.overlong: truncate (keeps the start){} or drop (leaves the row out)",
        first_overlong_->where(), first_overlong_length_, options_.seq_len, overlong_, s.rows, s.longest,
        first_overlong_is_text_ ? ", split (into several)" : "");
  const std::string path =
      s.sources.size() == 1 ? s.sources[0].path : fmt::format("{} sources", s.sources.size());
  if (side_ == Side::kHeld && s.examples == 0)
    fail("{}: a holdout of {}% holds none of {} rows; give a larger share, or a file", path,
         100 * options_.holdout.share, s.rows);
  if (const auto* dropped = s.report.first(Severity::kDropped);
      dropped != nullptr && options_.on_dropped == OnDropped::kError)
    fail("{}: {} (data.on_dropped is error; warn trains all the same)", dropped->first.where(),
         describe(*dropped, s.report.turns()));
  if (s.examples == 0 && s.dropped + s.emptied + s.held_out == 0) {
    const auto& entries = s.report.entries();
    const auto why = std::find_if(entries.begin(), entries.end(),
                                  [](const auto& entry) { return entry.kind == FindingKind::kNoTarget; });
    HONE_CHECK(why != entries.end(), "{} rows vanished", s.rows);
    fail("{}: no token of {} rows is learnt from: {}", path, s.rows, describe(*why, 0));
  }
  if (s.examples == 0)
    fail(
        "{}: no row is left: of {} rows, {} were dropped as longer than data.seq_len {}, {} had nothing to "
        "learn from within it, and {} nothing at all{}; raise data.seq_len",
        path, s.rows, s.dropped, options_.seq_len, s.emptied, s.without_target,
        s.held_out > 0 ? fmt::format("; {} are held out", s.held_out) : "");
  for (const auto& source : s.sources)
    if (source.examples == 0 && side_ == Side::kKept)
      fail("{}: no row of this source is left of {} (dropped, held out, or max_rows: 0)", source.path,
           source.rows);
}

/// How many examples of each source an epoch takes.
void set_shares(std::vector<MixturePart>& parts, const std::vector<SourceFiles>& sources, Side side) {
  const auto weighted = static_cast<std::size_t>(std::count_if(
      sources.begin(), sources.end(), [](const auto& s) { return s.source.weight.has_value(); }));
  if (weighted != 0 && weighted != sources.size())
    fail("data: {} of {} sources have a weight; give all of them one, or none", weighted, sources.size());
  double scale = std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& source = sources[i].source;
    if (!(source.weight.value_or(1) > 0) || !(source.repeat > 0))
      fail("{}: weight and repeat are above 0", source.path);
    scale = std::min(scale, static_cast<double>(parts[i].count) / source.weight.value_or(1));
  }
  double most = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const auto& source = sources[i].source;
    const auto all = static_cast<double>(parts[i].count);
    parts[i].per_epoch = side == Side::kHeld ? all
                         : weighted > 0      ? std::min(all, *source.weight * scale)
                                             : all * source.repeat;
    most = std::max(most, parts[i].per_epoch);
  }
  if (most < 1) fail("data: an epoch of these weights has less than one row; give larger ones");
}

}  // namespace

struct Dataset::State {
  std::vector<SourceFiles> sources;
  DatasetOptions options;
  std::vector<File> files;
  std::vector<Item> items;
  Mixture mixture{{}, false, 0};
  Side side = Side::kKept;
  bool whole = true;         // every example is a whole row, and every row one
  std::uint64_t shares = 0;  // a hash of what an epoch takes of each source

  TokenRow row(const Item& item) const { return files[item.file].content.tokens->row(item.row); }

  /// An epoch without its order.
  std::shared_ptr<const Epoch> contents(std::int64_t epoch) const {
    const std::lock_guard lock(mutex_);
    const std::int64_t number = mixture.is_constant() ? 0 : epoch;
    if (!contents_ || contents_number_ != number) {
      contents_ = std::make_shared<const Epoch>(make_epoch(number));
      contents_number_ = number;
    }
    return contents_;
  }

  /// The packs of an epoch in order, or null for ascending order. The last epoch asked for is kept.
  std::shared_ptr<const std::vector<std::int64_t>> order(std::int64_t epoch) const {
    if (!options.shuffle) return nullptr;
    const std::int64_t packs = contents(epoch)->num_packs;
    const std::lock_guard lock(mutex_);
    if (!order_ || order_number_ != epoch) {
      order_ = std::make_shared<const std::vector<std::int64_t>>(
          random_permutation(packs, options.seed, static_cast<std::uint64_t>(epoch)));
      order_number_ = epoch;
    }
    return order_;
  }

 private:
  Epoch make_epoch(std::int64_t number) const {
    Epoch epoch;
    if (!mixture.is_plain()) epoch.examples = mixture.epoch(number);
    const auto size = epoch.examples ? epoch.examples->size() : items.size();
    epoch.num_packs = static_cast<std::int64_t>(size);
    if (!options.packing) return epoch;
    std::vector<std::int32_t> lengths(size);
    for (std::size_t i = 0; i < size; ++i)
      lengths[i] = static_cast<std::int32_t>(
          items[epoch.examples ? static_cast<std::size_t>((*epoch.examples)[i]) : i].length);
    const auto order = options.shuffle
                           ? random_permutation(epoch.num_packs, options.seed,
                                                kPackingStream - static_cast<std::uint64_t>(number))
                           : std::vector<std::int64_t>{};
    epoch.packs = pack_best_fit(lengths, options.seq_len, order);
    epoch.num_packs = epoch.packs->size();
    return epoch;
  }

  mutable std::mutex mutex_;
  mutable std::int64_t contents_number_ = 0, order_number_ = 0;
  mutable std::shared_ptr<const Epoch> contents_;
  mutable std::shared_ptr<const std::vector<std::int64_t>> order_;
};

namespace {

template <typename State>
DatasetStatistics fill(State& state, Selection selection) {
  auto& statistics = selection.statistics;
  set_shares(selection.parts, state.sources, state.side);
  std::int64_t rows = 0;
  for (const auto& file : selection.files) rows += file.content.tokens->size();
  state.whole = rows == statistics.examples && statistics.truncated + statistics.split == 0;
  for (std::size_t i = 0; i < selection.parts.size(); ++i) {
    const auto& part = selection.parts[i];
    statistics.sources[i].per_epoch = part.per_epoch;
    for (const auto value :
         {static_cast<std::uint64_t>(part.count), std::bit_cast<std::uint64_t>(part.per_epoch)})
      state.shares = mix_hash(state.shares, value);
  }
  state.files = std::move(selection.files);
  state.items = std::move(selection.items);
  state.mixture = Mixture(std::move(selection.parts), state.options.shuffle, state.options.seed);
  const auto epoch = state.contents(0);
  statistics.epoch_examples = statistics.examples;
  statistics.epoch_tokens = statistics.tokens;
  if (epoch->examples) {
    statistics.epoch_examples = static_cast<std::int64_t>(epoch->examples->size());
    statistics.epoch_tokens = 0;
    for (const auto example : *epoch->examples)
      statistics.epoch_tokens += state.items[static_cast<std::size_t>(example)].length;
  }
  statistics.packs = epoch->num_packs;
  if (state.options.packing)
    statistics.fill = static_cast<double>(statistics.epoch_tokens) /
                      (static_cast<double>(statistics.packs) * static_cast<double>(state.options.seq_len));
  return statistics;
}

}  // namespace

bool Holdout::holds(std::uint64_t content) const {
  // A content of other bits than the file's hash: files are told apart by that one.
  return share > 0 && static_cast<double>(mix_hash(0x686F6C646F7574, content) >> 11) * 0x1p-53 < share;
}

Dataset::Dataset(std::shared_ptr<const State> state, DatasetStatistics statistics)
    : state_(std::move(state)), statistics_(std::move(statistics)) {}

Dataset Dataset::load(const std::vector<DataSource>& sources, const std::string& split,
                      const text::PretrainedTokenizer* tokenizer, const DatasetOptions& options,
                      const Progress& progress) {
  HONE_CHECK(options.seq_len > 0, "a seq_len of {}", options.seq_len);
  HONE_CHECK(!sources.empty(), "a dataset of no sources");
  HONE_CHECK(options.holdout.share >= 0 && options.holdout.share < 1, "a holdout of {}",
             options.holdout.share);
  auto state = std::make_shared<State>();
  state->options = options;
  state->sources = read_sources(sources, split, tokenizer, options, progress);
  Selection selection(state->sources, options, state->side);
  selection.run();
  selection.check();
  auto statistics = fill(*state, std::move(selection));
  return Dataset(std::move(state), std::move(statistics));
}

Dataset Dataset::held_out() const {
  auto state = std::make_shared<State>();
  state->options = state_->options;
  state->sources = state_->sources;
  state->side = Side::kHeld;
  Selection selection(state->sources, state->options, state->side);
  selection.run();
  selection.check();
  auto statistics = fill(*state, std::move(selection));
  return Dataset(std::move(state), std::move(statistics));
}

std::int64_t Dataset::num_examples() const {
  return static_cast<std::int64_t>(state_->items.size());
}

Example Dataset::example(std::int64_t index) const {
  HONE_CHECK(index >= 0 && index < num_examples(), "example {} of {}", index, num_examples());
  const Item& item = state_->items[static_cast<std::size_t>(index)];
  Example example =
      state_->files[item.file].content.tokens->example(state_->row(item), item.begin, item.length);
  example.source = state_->files[item.file].source;
  return example;
}

std::int64_t Dataset::length(std::int64_t index) const {
  HONE_CHECK(index >= 0 && index < num_examples(), "example {} of {}", index, num_examples());
  return state_->items[static_cast<std::size_t>(index)].length;
}

RowSource Dataset::source(std::int64_t index) const {
  HONE_CHECK(index >= 0 && index < num_examples(), "example {} of {}", index, num_examples());
  const Item& item = state_->items[static_cast<std::size_t>(index)];
  RowSource source = state_->files[item.file].content.place;
  source.line = state_->row(item).number;
  return source;
}

std::int64_t Dataset::num_packs(std::int64_t epoch) const {
  return state_->contents(epoch)->num_packs;
}

std::vector<std::int64_t> Dataset::pack(std::int64_t epoch, std::int64_t pack) const {
  const auto contents = state_->contents(epoch);
  HONE_CHECK(epoch >= 0 && pack >= 0 && pack < contents->num_packs, "pack {} of {} in epoch {}", pack,
             contents->num_packs, epoch);
  if (const auto order = state_->order(epoch)) pack = (*order)[static_cast<std::size_t>(pack)];
  std::vector<std::int64_t> members{pack};
  if (contents->packs) members.assign((*contents->packs)[pack].begin(), (*contents->packs)[pack].end());
  if (contents->examples)
    for (auto& member : members) member = (*contents->examples)[static_cast<std::size_t>(member)];
  return members;
}

std::vector<std::vector<std::int64_t>> Dataset::next_batch(Cursor& cursor, std::int64_t global_batch) const {
  HONE_CHECK(global_batch > 0, "a batch of {}", global_batch);
  const std::int64_t last = num_packs(cursor.epoch);
  const std::int64_t end = std::min(last, cursor.pack + global_batch);
  std::vector<std::vector<std::int64_t>> packs;
  for (std::int64_t i = cursor.pack; i < end; ++i) packs.push_back(pack(cursor.epoch, i));
  HONE_CHECK(!packs.empty(), "a cursor at pack {} of {}", cursor.pack, last);
  cursor.pack = end;
  if (end == last) cursor = {cursor.epoch + 1, 0};
  return packs;
}

std::int64_t Dataset::steps_per_epoch(std::int64_t global_batch) const {
  HONE_CHECK(global_batch > 0, "a batch of {}", global_batch);
  return (num_packs() + global_batch - 1) / global_batch;
}

std::uint64_t Dataset::fingerprint() const {
  const auto& options = state_->options;
  std::uint64_t hash = 0;
  if (state_->sources.size() == 1 && options.holdout.share == 0 && state_->mixture.is_plain()) {
    // As it was before sources: of all examples in their order. The file knows it, where they are just its
    // rows.
    if (state_->files.size() == 1 && state_->whole) {
      hash = state_->files[0].content.tokens->hash();
    } else {
      for (std::int64_t i = 0; i < num_examples(); ++i) {
        const auto e = example(i);
        hash = mix_example(hash, e.ids, e.labels, e.weights);
      }
    }
  } else {
    for (const auto& file : state_->files) hash = mix_hash(hash, file.content.tokens->hash());
    for (const auto value :
         {state_->shares, static_cast<std::uint64_t>(options.overlong),
          static_cast<std::uint64_t>(options.seq_len), std::bit_cast<std::uint64_t>(options.holdout.share),
          static_cast<std::uint64_t>(state_->side)})
      hash = mix_hash(hash, value);
  }
  for (const auto value : {static_cast<std::uint64_t>(options.packing ? options.seq_len : 0),
                           static_cast<std::uint64_t>(options.shuffle), options.shuffle ? options.seed : 0})
    hash = mix_hash(hash, value);
  return hash;
}

}  // namespace hone::data
