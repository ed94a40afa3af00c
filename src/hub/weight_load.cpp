// Walking a WeightPlan: loading.
#include <algorithm>
#include <atomic>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/message.h"
#include "hub/weight_plan.h"

namespace hone::hub {

namespace {

/// Whether any of `n` numbers has all bits of `exponent` set: NaN or an infinity.
template <typename Bits>
bool any_nonfinite(const std::byte* values, std::size_t n, Bits exponent) {
  const auto* bits = reinterpret_cast<const Bits*>(values);
  Bits found = 0;
#pragma omp simd reduction(| : found)
  for (std::size_t i = 0; i < n; ++i) found |= static_cast<Bits>((bits[i] & exponent) == exponent ? 1 : 0);
  return found != 0;
}

/// `values` aligned to the type, which is a floating one of at least 16 bits.
bool any_nonfinite(DType dtype, const std::byte* values, std::size_t n) {
  switch (dtype) {
    case DType::kBF16:
      return any_nonfinite<std::uint16_t>(values, n, 0x7f80);
    case DType::kF16:
      return any_nonfinite<std::uint16_t>(values, n, 0x7c00);
    case DType::kF32:
      return any_nonfinite<std::uint32_t>(values, n, 0x7f800000);
    case DType::kF64:
      return any_nonfinite<std::uint64_t>(values, n, 0x7ff0000000000000);
    default:
      return false;
  }
}

/// A parameter that a tensor of the checkpoint is read for.
struct Use {
  const WeightPiece* piece = nullptr;
  std::size_t parameter = 0;
  Destination to;
  MapWalk walk;  // over the destination's memory

  void set(const Destination& destination) {
    to = destination;
    if (to.data != nullptr) walk = MapWalk(piece->map, to.region);
  }
};

/// A tensor of the checkpoint being read: where to, and what was found in it.
struct Reading {
  const CheckpointTensor* tensor = nullptr;
  PinnedBytes* pinned = nullptr;
  PinnedBytes* pinned_scales = nullptr;  // of a quantised one
  std::vector<Use> uses;                 // none: of no parameter, only pinned
  ScaleRange scale_range = {};           // that `scales` holds
  std::vector<std::byte> scales = {};
  std::int64_t nonfinite_piece = -1;  // any piece of its bytes that holds NaN or an infinity

  bool is_wanted() const {
    return uses.empty() ||
           std::any_of(uses.begin(), uses.end(), [](const Use& use) { return use.to.data != nullptr; });
  }
  /// Null where the tensor is not quantised.
  const BlockFormat* format() const {
    if (uses.empty() || !uses[0].piece->quantized) return nullptr;
    return &uses[0].piece->quantized->read.format;
  }
  /// Whether its elements are numbers that this can read.
  bool has_values() const { return format() != nullptr || is_weight_type(tensor->type()); }
  DType dtype() const { return is_weight_type(tensor->type()) ? *tensor->type().dtype : DType::kU8; }
  /// Elements that lie in so many bytes.
  std::int64_t elements_in(std::size_t bytes) const {
    if (const auto* f = format()) return static_cast<std::int64_t>(bytes) * 8 / f->bits();
    return static_cast<std::int64_t>(bytes / size_of(dtype()));
  }
  /// Elements of one piece of its bytes, and the first of them.
  std::int64_t elements_of(std::size_t index) const { return elements_in(pinned->size_of_piece(index)); }
  std::int64_t first_of(std::size_t index) const { return elements_in(index * PinnedBytes::kPiece); }
  bool wants(std::size_t index) const {
    return uses.empty() || std::any_of(uses.begin(), uses.end(), [&](const Use& use) {
             return use.to.data != nullptr && use.walk.touches(first_of(index), elements_of(index));
           });
  }
};

/// What a thread reads into, aligned for every type.
struct Scratch {
  std::vector<std::uint64_t> piece = std::vector<std::uint64_t>(PinnedBytes::kPiece / sizeof(std::uint64_t));
  std::vector<std::uint64_t> run;
  std::vector<float> decoded;
};

template <typename Bits>
void scatter(const std::byte* from, std::byte* to, const std::int64_t* offsets, std::int64_t n) {
  const auto* values = reinterpret_cast<const Bits*>(from);
  auto* memory = reinterpret_cast<Bits*>(to);
  for (std::int64_t i = 0; i < n; ++i) memory[offsets[i]] = values[i];
}

/// Writes `count` values to `memory`, in another dtype, where a run says.
void put(DType from, const std::byte* values, DType to, std::byte* memory, const MapWalk::Run& run,
         Scratch& scratch) {
  const auto count = static_cast<std::size_t>(run.count);
  memory += static_cast<std::size_t>(run.memory) * size_of(to);
  if (run.offsets == nullptr) return convert(from, values, to, memory, count);
  if (from != to) {
    scratch.run.resize((count * size_of(to) + 7) / 8);
    convert(from, values, to, scratch.run.data(), count);
    values = reinterpret_cast<const std::byte*>(scratch.run.data());
  }
  switch (size_of(to)) {
    case 2:
      return scatter<std::uint16_t>(values, memory, run.offsets, run.count);
    case 4:
      return scatter<std::uint32_t>(values, memory, run.offsets, run.count);
    default:
      return scatter<std::uint64_t>(values, memory, run.offsets, run.count);
  }
}

/// Whether a read pins what it reads, or verifies it.
enum class Pinning { kPin, kVerify };

void read_bytes(PinnedBytes& pinned, Pinning pinning, std::size_t index, std::span<std::byte> bytes) {
  if (pinning == Pinning::kPin)
    pinned.pin(index, bytes);
  else
    pinned.read_piece(index, bytes);
}

/// Reads one piece of a tensor's bytes and brings its values to their places; what is stored as it is
/// computed with is read straight to it.
void read_piece(Reading& reading, Pinning pinning, std::size_t index, Scratch& scratch) {
  DType from = reading.dtype();
  const BlockFormat* format = reading.format();
  const std::int64_t first = reading.first_of(index);
  const std::int64_t n = reading.elements_of(index);
  const Use* straight = nullptr;
  if (reading.uses.size() == 1 && reading.uses[0].walk.is_one_run() && reading.uses[0].to.dtype == from &&
      format == nullptr)
    straight = &reading.uses[0];
  std::span<std::byte> bytes(reinterpret_cast<std::byte*>(scratch.piece.data()),
                             reading.pinned->size_of_piece(index));
  if (straight != nullptr)
    straight->walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
      bytes = {
          static_cast<std::byte*>(straight->to.data) + static_cast<std::size_t>(run.memory) * size_of(from),
          bytes.size()};
    });
  read_bytes(*reading.pinned, pinning, index, bytes);
  if (!reading.has_values()) return;
  const std::byte* values = bytes.data();  // from `first` on
  if (format != nullptr) {
    scratch.decoded.resize(static_cast<std::size_t>(n));
    decode(*format, bytes.data(), reading.scales.data(), reading.scale_range.first, first, n,
           scratch.decoded.data());
    values = reinterpret_cast<const std::byte*>(scratch.decoded.data());
    from = DType::kF32;
  }
  if (any_nonfinite(from, values, static_cast<std::size_t>(n)))
    std::atomic_ref(reading.nonfinite_piece)
        .store(static_cast<std::int64_t>(index), std::memory_order_relaxed);
  for (const auto& use : reading.uses) {
    if (use.to.data == nullptr) continue;
    use.walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
      const std::byte* of_run = values + static_cast<std::size_t>(run.stored - first) * size_of(from);
      if (straight == nullptr)
        put(from, of_run, use.to.dtype, static_cast<std::byte*>(use.to.data), run, scratch);
      if (use.to.master != nullptr)
        put(from, of_run, DType::kF32, reinterpret_cast<std::byte*>(use.to.master), run, scratch);
    });
  }
}

/// Reads the scales of the blocks that some pieces of a quantised tensor lie in.
void read_scales(Team& team, Reading& reading, Pinning pinning, std::size_t first_piece,
                 std::size_t last_piece) {
  const BlockFormat& format = *reading.format();
  const std::int64_t first = reading.first_of(first_piece);
  const std::int64_t end = reading.first_of(last_piece) + reading.elements_of(last_piece);
  const ScaleRange range = scales_of(format, first, end - first);
  const auto begin_byte = static_cast<std::size_t>(range.first * format.scale_bytes());
  const auto end_byte = static_cast<std::size_t>((range.first + range.count) * format.scale_bytes());
  const std::size_t begin_piece = begin_byte / PinnedBytes::kPiece;
  const std::size_t end_piece = (end_byte + PinnedBytes::kPiece - 1) / PinnedBytes::kPiece;
  // From the beginning of a piece: the range read is a little wider than the one that is asked for.
  reading.scale_range = {static_cast<std::int64_t>(begin_piece * PinnedBytes::kPiece) / format.scale_bytes(),
                         range.count};
  std::size_t size = 0;
  for (std::size_t i = begin_piece; i < end_piece; ++i) size += reading.pinned_scales->size_of_piece(i);
  reading.scales.resize(size);
  const auto count = static_cast<std::int64_t>(end_piece - begin_piece);
  team.parallel_for(team.num_threads(), count, [&](std::int64_t i, int) {
    const auto from = static_cast<std::size_t>(i), piece = begin_piece + from;
    read_bytes(*reading.pinned_scales, pinning, piece,
               std::span(reading.scales)
                   .subspan(from * PinnedBytes::kPiece, reading.pinned_scales->size_of_piece(piece)));
  });
}

/// Reads some tensors.
void read_all(Team& team, std::span<Reading> readings, Pinning pinning) {
  std::vector<std::pair<std::size_t, std::size_t>> pieces;
  for (std::size_t r = 0; r < readings.size(); ++r) {
    if (!readings[r].is_wanted()) continue;
    const std::size_t before = pieces.size();
    for (std::size_t i = 0; i < readings[r].pinned->num_pieces(); ++i)
      if (readings[r].wants(i)) pieces.emplace_back(r, i);
    if (readings[r].format() != nullptr && pieces.size() > before)
      read_scales(team, readings[r], pinning, pieces[before].second, pieces.back().second);
  }
  std::vector<Scratch> scratch(static_cast<std::size_t>(team.num_threads()));
  team.parallel_for(
      team.num_threads(), static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i, int thread) {
        const auto [reading, piece] = pieces[static_cast<std::size_t>(i)];
        read_piece(readings[reading], pinning, piece, scratch[static_cast<std::size_t>(thread)]);
      });
}

/// "NaN", or "an infinity" where there is no NaN, and the place of the first in the piece.
std::string describe_nonfinite(const Reading& reading) {
  const auto index = static_cast<std::size_t>(reading.nonfinite_piece);
  std::vector<std::uint64_t> buffer(PinnedBytes::kPiece / sizeof(std::uint64_t));
  const std::span<std::byte> bytes(reinterpret_cast<std::byte*>(buffer.data()),
                                   reading.pinned->size_of_piece(index));
  reading.pinned->read_piece(index, bytes);
  std::vector<float> values(static_cast<std::size_t>(reading.elements_of(index)));
  DType from = reading.dtype();
  const std::byte* elements = bytes.data();
  if (const auto* format = reading.format()) {
    decode(*format, bytes.data(), reading.scales.data(), reading.scale_range.first, reading.first_of(index),
           reading.elements_of(index), values.data());
    elements = reinterpret_cast<const std::byte*>(values.data());
    from = DType::kF32;
  } else {
    convert(from, bytes.data(), DType::kF32, values.data(), values.size());
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    if (any_nonfinite(from, elements + i * size_of(from), 1))
      return fmt::format("{} (element {} of {})", values[i],
                         static_cast<std::size_t>(reading.first_of(index)) + i,
                         reading.tensor->shape().str());
  return "NaN";
}

void check_finite(const Reading& reading) {
  if (reading.nonfinite_piece < 0) return;
  const std::string what = fmt::format("{}: {} holds {}", reading.pinned->path().string(),
                                       shown(reading.tensor->name()), describe_nonfinite(reading));
  if (!reading.uses.empty())
    fail("{}; a model with such a weight computes NaN: take an intact copy of the checkpoint", what);
  log_warning("{}; hone does not compute with this tensor and writes it back as it is", what);
}

}  // namespace

void WeightPlan::load(Team& team, const std::function<Destination(std::size_t)>& destination,
                      const std::function<void(std::size_t)>& done) const {
  std::vector<Reading> readings;
  std::unordered_map<const CheckpointTensor*, std::size_t> reading_of;
  pins_->clear();
  const auto pin = [&](const CheckpointTensor* tensor) {
    return &pins_->try_emplace(tensor, checkpoint_->to_pin(*tensor)).first->second;
  };
  const auto add = [&](const CheckpointTensor* tensor) -> Reading& {
    const auto [at, is_new] = reading_of.emplace(tensor, readings.size());
    if (is_new) readings.push_back({.tensor = tensor, .pinned = pin(tensor), .uses = {}});
    return readings[at->second];
  };
  for (std::size_t p = 0; p < parameters_.size(); ++p)
    for (const auto& piece : parameters_[p].pieces) {
      HONE_CHECK(piece.source != nullptr && checkpoint_, "{} was read from nowhere", piece.hub.name);
      auto& reading = add(piece.source);
      if (piece.quantized) reading.pinned_scales = pin(piece.quantized->read.scales);
      reading.uses.push_back({.piece = &piece, .parameter = p, .to = {}, .walk = {}});
    }
  for (const auto& copy : tied_copies_) add(copy.source);
  for (const auto* tensor : passed_through_) add(tensor);
  for (const auto* tensor : silent_) add(tensor);
  const auto place = [](const Reading& r) {
    return std::tuple(r.tensor->shard, r.tensor->stored->begin, r.uses.empty() ? 0 : r.uses[0].parameter);
  };
  std::sort(readings.begin(), readings.end(),
            [&](const Reading& a, const Reading& b) { return place(a) < place(b); });

  struct Open {
    Destination to;
    std::size_t pieces_left = 0;
  };
  std::unordered_map<std::size_t, Open> open;
  for (std::size_t begin = 0, end = 0; begin < readings.size(); begin = end) {
    std::uint64_t bytes = 0;
    for (; end < readings.size() && (end == begin || bytes + readings[end].pinned->size_bytes() <= kWindow);
         ++end) {
      bytes += readings[end].pinned->size_bytes();
      for (auto& use : readings[end].uses) {
        const auto [at, is_new] = open.try_emplace(use.parameter);
        if (is_new) at->second = {destination(use.parameter), parameters_[use.parameter].pieces.size()};
        use.set(at->second.to);
      }
    }
    if (end < readings.size()) readings[end].pinned->will_need();
    const auto window = std::span(readings).subspan(begin, end - begin);
    read_all(team, window, Pinning::kPin);
    for (auto& reading : window) {
      check_finite(reading);
      if (!reading.is_wanted()) {
        if (const auto& q = reading.uses[0].piece->quantized) pins_->erase(q->read.scales);
        pins_->erase(reading.tensor);
      }
      reading.scales = {};
      for (const auto& use : std::exchange(reading.uses, {})) {
        const auto at = open.find(use.parameter);
        if (--at->second.pieces_left > 0) continue;
        open.erase(at);
        if (done) done(use.parameter);
      }
    }
  }
}

void WeightPlan::load_parameter(Team& team, std::size_t parameter, const Destination& destination) const {
  read_pieces(team, parameters_.at(parameter).pieces, parameter, destination);
}

CodingError WeightPlan::expected_coding_error(std::size_t parameter) const {
  for (const auto& piece : parameters_.at(parameter).pieces) {
    if (!piece.quantized || piece.source->stored->size_bytes == 0) continue;
    const auto pinned = [&](const CheckpointTensor& tensor) {
      const auto found = pins_->find(&tensor);
      return found != pins_->end() ? found->second : checkpoint_->to_pin(tensor);
    };
    PinnedBytes elements = pinned(*piece.source);
    PinnedBytes scales = pinned(*piece.quantized->read.scales);
    Reading reading{.tensor = piece.source, .pinned = &elements, .pinned_scales = &scales, .uses = {}};
    reading.uses.push_back({.piece = &piece, .parameter = parameter, .to = {}, .walk = {}});
    Team alone(1);
    read_scales(alone, reading, Pinning::kVerify, 0, 0);
    std::vector<std::byte> bytes(elements.size_of_piece(0));
    elements.read_piece(0, bytes);
    return expected_error(piece.quantized->read.format, bytes.data(), reading.scales.data(),
                          reading.scale_range.first, 0, reading.elements_of(0));
  }
  return {};
}

void WeightPlan::read_pieces(Team& team, std::span<const WeightPiece> pieces, std::size_t parameter,
                             const Destination& destination) const {
  std::vector<Reading> readings;
  Pins own;  // of tensors that load() has not read
  const auto pinned = [&](const CheckpointTensor* tensor) {
    const auto found = pins_->find(tensor);
    if (found != pins_->end()) return &found->second;
    return &own.try_emplace(tensor, checkpoint_->to_pin(*tensor)).first->second;
  };
  for (const auto& piece : pieces) {
    HONE_CHECK(piece.source != nullptr && checkpoint_, "{} was read from nowhere", piece.hub.name);
    auto* scales = piece.quantized ? pinned(piece.quantized->read.scales) : nullptr;
    readings.push_back(
        {.tensor = piece.source, .pinned = pinned(piece.source), .pinned_scales = scales, .uses = {}});
    readings.back().uses.push_back({.piece = &piece, .parameter = parameter, .to = {}, .walk = {}});
    readings.back().uses.back().set(destination);
  }
  read_all(team, readings, Pinning::kVerify);
}

}  // namespace hone::hub
