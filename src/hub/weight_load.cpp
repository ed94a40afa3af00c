// Walking a WeightPlan: loading.
#include <algorithm>
#include <atomic>
#include <exception>
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
  std::vector<Use> uses;              // none: of no parameter, only pinned
  std::int64_t nonfinite_piece = -1;  // any piece of its bytes that holds NaN or an infinity

  bool is_wanted() const {
    return uses.empty() ||
           std::any_of(uses.begin(), uses.end(), [](const Use& use) { return use.to.data != nullptr; });
  }
  DType dtype() const { return is_weight_type(tensor->type()) ? *tensor->type().dtype : DType::kU8; }
  /// Elements of one piece of its bytes, and the first of them.
  std::int64_t elements_of(std::size_t index) const {
    return static_cast<std::int64_t>(pinned->size_of_piece(index) / size_of(dtype()));
  }
  std::int64_t first_of(std::size_t index) const {
    return static_cast<std::int64_t>(index * (PinnedBytes::kPiece / size_of(dtype())));
  }
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

/// Reads one piece of a tensor's bytes and brings its values to their places; what is stored as it is
/// computed with is read straight to it.
void read_piece(Reading& reading, std::size_t index, Scratch& scratch) {
  const DType from = reading.dtype();
  const std::int64_t first = reading.first_of(index);
  const std::int64_t n = reading.elements_of(index);
  const Use* straight = nullptr;
  if (reading.uses.size() == 1 && reading.uses[0].walk.is_one_run() && reading.uses[0].to.dtype == from)
    straight = &reading.uses[0];
  std::span<std::byte> bytes(reinterpret_cast<std::byte*>(scratch.piece.data()),
                             reading.pinned->size_of_piece(index));
  if (straight != nullptr)
    straight->walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
      bytes = {
          static_cast<std::byte*>(straight->to.data) + static_cast<std::size_t>(run.memory) * size_of(from),
          bytes.size()};
    });
  reading.pinned->pin(index, bytes);
  if (!is_weight_type(reading.tensor->type())) return;
  if (any_nonfinite(from, bytes.data(), static_cast<std::size_t>(n)))
    std::atomic_ref(reading.nonfinite_piece)
        .store(static_cast<std::int64_t>(index), std::memory_order_relaxed);
  for (const auto& use : reading.uses) {
    if (use.to.data == nullptr) continue;
    use.walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
      const std::byte* values = bytes.data() + static_cast<std::size_t>(run.stored - first) * size_of(from);
      if (straight == nullptr)
        put(from, values, use.to.dtype, static_cast<std::byte*>(use.to.data), run, scratch);
      if (use.to.master != nullptr)
        put(from, values, DType::kF32, reinterpret_cast<std::byte*>(use.to.master), run, scratch);
    });
  }
}

/// Reads some tensors with all threads. Exceptions come out on this one.
void read_all(std::span<Reading> readings) {
  std::vector<std::pair<std::size_t, std::size_t>> pieces;
  for (std::size_t r = 0; r < readings.size(); ++r)
    for (std::size_t i = 0; readings[r].is_wanted() && i < readings[r].pinned->num_pieces(); ++i)
      if (readings[r].wants(i)) pieces.emplace_back(r, i);
  const auto count = static_cast<std::int64_t>(pieces.size());
  std::exception_ptr failure;
#pragma omp parallel if (count > 1)
  {
    Scratch scratch;
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < count; ++i) {
      const auto [r, piece] = pieces[static_cast<std::size_t>(i)];
      try {
        read_piece(readings[r], piece, scratch);
      } catch (...) {
#pragma omp critical(hone_hub_read_all)
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
}

/// "NaN", or "an infinity" where there is no NaN, and the place of the first in the piece.
std::string describe_nonfinite(const Reading& reading) {
  const auto index = static_cast<std::size_t>(reading.nonfinite_piece);
  const DType from = *reading.tensor->type().dtype;
  std::vector<std::uint64_t> buffer(PinnedBytes::kPiece / sizeof(std::uint64_t));
  const std::span<std::byte> bytes(reinterpret_cast<std::byte*>(buffer.data()),
                                   reading.pinned->size_of_piece(index));
  reading.pinned->pin(index, bytes);
  for (std::size_t i = 0; i < bytes.size() / size_of(from); ++i) {
    float value = 0;
    convert(from, bytes.data() + i * size_of(from), DType::kF32, &value, 1);
    if (any_nonfinite(from, bytes.data() + i * size_of(from), 1))
      return fmt::format("{} (element {} of {})", value, index * PinnedBytes::kPiece / size_of(from) + i,
                         reading.tensor->shape().str());
  }
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

void WeightPlan::load(const std::function<Destination(std::size_t)>& destination,
                      const std::function<void(std::size_t)>& done) const {
  std::vector<Reading> readings;
  std::unordered_map<const CheckpointTensor*, std::size_t> reading_of;
  pins_->clear();
  const auto add = [&](const CheckpointTensor* tensor) -> Reading& {
    const auto [at, is_new] = reading_of.emplace(tensor, readings.size());
    if (is_new) {
      auto& pinned = pins_->emplace(tensor, checkpoint_->to_pin(*tensor)).first->second;
      readings.push_back({.tensor = tensor, .pinned = &pinned, .uses = {}});
    }
    return readings[at->second];
  };
  for (std::size_t p = 0; p < parameters_.size(); ++p)
    for (const auto& piece : parameters_[p].pieces) {
      HONE_CHECK(piece.source != nullptr && checkpoint_, "{} was read from nowhere", piece.hub.name);
      add(piece.source).uses.push_back({.piece = &piece, .parameter = p, .to = {}, .walk = {}});
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
    read_all(window);
    for (auto& reading : window) {
      check_finite(reading);
      if (!reading.is_wanted()) pins_->erase(reading.tensor);
      for (const auto& use : std::exchange(reading.uses, {})) {
        const auto at = open.find(use.parameter);
        if (--at->second.pieces_left > 0) continue;
        open.erase(at);
        if (done) done(use.parameter);
      }
    }
  }
}

void WeightPlan::load_parameter(std::size_t parameter, const Destination& destination) const {
  std::vector<PinnedBytes> pinned;
  std::vector<Reading> readings;
  const auto& pieces = parameters_.at(parameter).pieces;
  pinned.reserve(pieces.size());
  for (const auto& piece : pieces) {
    HONE_CHECK(piece.source != nullptr && checkpoint_, "{} was read from nowhere", piece.hub.name);
    pinned.push_back(checkpoint_->to_pin(*piece.source));
    readings.push_back({.tensor = piece.source, .pinned = &pinned.back(), .uses = {}});
    readings.back().uses.push_back({.piece = &piece, .parameter = parameter, .to = {}, .walk = {}});
    readings.back().uses.back().set(destination);
  }
  read_all(readings);
}

}  // namespace hone::hub
