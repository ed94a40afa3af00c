// Walking a WeightPlan: loading.
#include <algorithm>
#include <atomic>
#include <exception>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/message.h"
#include "hub/weight_rules.h"

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

/// A tensor of the checkpoint being read: where to, and what was found in it.
struct Reading {
  const CheckpointTensor* tensor = nullptr;
  PinnedBytes* pinned = nullptr;
  const WeightPiece* piece = nullptr;  // null: of no parameter, only pinned
  std::size_t parameter = 0;
  Destination to;
  std::int64_t nonfinite_piece = -1;  // any piece of its bytes that holds NaN or an infinity

  bool is_wanted() const { return piece == nullptr || to.data != nullptr; }
};

/// Reads one piece of a tensor's bytes and converts it into its place; one that is stored as it is computed
/// with is read straight to it. `buffer` holds PinnedBytes::kPiece.
void read_piece(Reading& reading, std::size_t index, std::byte* buffer) {
  const StoredType& type = reading.tensor->type();
  const bool is_weight = is_weight_type(type);
  const DType from = is_weight ? *type.dtype : DType::kU8;
  const std::size_t size = reading.pinned->size_of_piece(index);
  const std::size_t n = size / size_of(from);
  const auto place = [&](void* data, DType dtype) {
    const std::size_t first =
        static_cast<std::size_t>(reading.piece->offset) + index * PinnedBytes::kPiece / size_of(from);
    return static_cast<std::byte*>(data) + first * size_of(dtype);
  };
  const bool is_placed = is_weight && reading.piece != nullptr && reading.to.dtype == from;
  const std::span<std::byte> bytes(is_placed ? place(reading.to.data, from) : buffer, size);
  reading.pinned->pin(index, bytes);
  if (!is_weight) return;
  if (any_nonfinite(from, bytes.data(), n))
    std::atomic_ref(reading.nonfinite_piece)
        .store(static_cast<std::int64_t>(index), std::memory_order_relaxed);
  if (reading.piece == nullptr) return;
  const auto convert_to = [&](void* data, DType dtype) {
    convert(from, bytes.data(), dtype, place(data, dtype), n);
  };
  if (!is_placed) convert_to(reading.to.data, reading.to.dtype);
  if (reading.to.master != nullptr) convert_to(reading.to.master, DType::kF32);
}

/// Reads some tensors with all threads. Exceptions come out on this one.
void read_all(std::span<Reading> readings) {
  std::vector<std::pair<std::size_t, std::size_t>> pieces;
  for (std::size_t r = 0; r < readings.size(); ++r)
    for (std::size_t i = 0; readings[r].is_wanted() && i < readings[r].pinned->num_pieces(); ++i)
      pieces.emplace_back(r, i);
  const auto count = static_cast<std::int64_t>(pieces.size());
  std::exception_ptr failure;
#pragma omp parallel if (count > 1)
  {
    std::vector<std::uint64_t> buffer(PinnedBytes::kPiece / sizeof(std::uint64_t));  // aligned for every type
#pragma omp for schedule(dynamic, 1)
    for (std::int64_t i = 0; i < count; ++i) {
      const auto [r, piece] = pieces[static_cast<std::size_t>(i)];
      try {
        read_piece(readings[r], piece, reinterpret_cast<std::byte*>(buffer.data()));
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
  if (reading.piece != nullptr)
    fail("{}; a model with such a weight computes NaN: take an intact copy of the checkpoint", what);
  log_warning("{}; hone does not compute with this tensor and writes it back as it is", what);
}

}  // namespace

void WeightPlan::load(const std::function<Destination(std::size_t)>& destination,
                      const std::function<void(std::size_t)>& done) const {
  std::vector<Reading> readings;
  pins_->clear();
  const auto add = [&](const CheckpointTensor* tensor, const WeightPiece* piece, std::size_t parameter) {
    auto& pinned = pins_->emplace(tensor, checkpoint_->to_pin(*tensor)).first->second;
    readings.push_back(
        {.tensor = tensor, .pinned = &pinned, .piece = piece, .parameter = parameter, .to = {}});
  };
  for (std::size_t p = 0; p < parameters_.size(); ++p)
    for (const auto& piece : parameters_[p].pieces) {
      HONE_CHECK(piece.source != nullptr && checkpoint_, "{} was read from nowhere", piece.hub.name);
      add(piece.source, &piece, p);
    }
  for (const auto& copy : tied_copies_) add(copy.source, nullptr, 0);
  for (const auto* tensor : passed_through_) add(tensor, nullptr, 0);
  for (const auto* tensor : silent_) add(tensor, nullptr, 0);
  const auto place = [](const Reading& r) {
    return std::tuple(r.tensor->shard, r.tensor->stored->begin, r.parameter);
  };
  std::sort(readings.begin(), readings.end(),
            [&](const Reading& a, const Reading& b) { return place(a) < place(b); });

  struct Open {
    Destination to;
    std::size_t tensors_left = 0;
  };
  std::unordered_map<std::size_t, Open> open;
  for (std::size_t begin = 0, end = 0; begin < readings.size(); begin = end) {
    std::uint64_t bytes = 0;
    for (; end < readings.size() && (end == begin || bytes + readings[end].pinned->size_bytes() <= kWindow);
         ++end) {
      auto& reading = readings[end];
      bytes += reading.pinned->size_bytes();
      if (reading.piece == nullptr) continue;
      const auto [at, is_new] = open.try_emplace(reading.parameter);
      if (is_new) at->second = {destination(reading.parameter), parameters_[reading.parameter].pieces.size()};
      reading.to = at->second.to;
    }
    if (end < readings.size()) readings[end].pinned->will_need();
    const auto window = std::span(readings).subspan(begin, end - begin);
    read_all(window);
    for (const auto& reading : window) {
      check_finite(reading);
      if (reading.piece == nullptr) continue;
      if (!reading.is_wanted()) pins_->erase(reading.tensor);
      const auto at = open.find(reading.parameter);
      if (--at->second.tensors_left > 0) continue;
      open.erase(at);
      if (done) done(reading.parameter);
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
    readings.push_back({piece.source, &pinned.back(), &piece, parameter, destination});
  }
  read_all(readings);
}

}  // namespace hone::hub
