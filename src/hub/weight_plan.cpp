// Walking a WeightPlan: saving, and comparing tied tensors.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "hub/tolerant_lookup.h"
#include "hub/weight_rules.h"

namespace hone::hub {

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;  // elements converted at a time

/// Converts elements of a mapped tensor, which need not be aligned. Both types are weight types.
void convert_unaligned(DType from, const std::byte* source, DType to, std::byte* target, std::size_t n) {
  const std::size_t from_size = size_of(from);
  const std::size_t to_size = size_of(to);
  if (from == to || reinterpret_cast<std::uintptr_t>(source) % from_size == 0)
    return convert(from, source, to, target, n);
  std::vector<std::uint64_t> aligned((std::min(n, kChunk) * from_size + 7) / 8);
  for (std::size_t done = 0; done < n; done += kChunk) {
    const std::size_t count = std::min(kChunk, n - done);
    std::memcpy(aligned.data(), source + done * from_size, count * from_size);
    convert(from, aligned.data(), to, target + done * to_size, count);
  }
}

/// The first finite value that becomes infinite in half precision, if any.
std::optional<float> overflow_to_f16(DType from, const std::byte* values, std::size_t n) {
  if (from == DType::kF16) return std::nullopt;
  std::array<float, 1024> chunk;
  for (std::size_t done = 0; done < n; done += chunk.size()) {
    const std::size_t count = std::min(chunk.size(), n - done);
    convert_unaligned(from, values + done * size_of(from), DType::kF32,
                      reinterpret_cast<std::byte*>(chunk.data()), count);
    for (std::size_t i = 0; i < count; ++i)
      if (std::isfinite(chunk[i]) && std::abs(chunk[i]) >= 65520.0F) return chunk[i];
  }
  return std::nullopt;
}

/// One save under way.
class Saver {
 public:
  using Pins = std::unordered_map<const CheckpointTensor*, PinnedBytes>;
  Saver(CheckpointWriter& writer, const std::optional<Checkpoint>& checkpoint, const Pins& pins)
      : writer_(writer), checkpoint_(checkpoint), pins_(pins) {}

  /// `values`: the tensor's elements in another dtype.
  void write(const TensorSpec& hub, DType from, const std::byte* values) {
    const auto n = static_cast<std::size_t>(hub.shape.numel());
    if (n == 0) writer_.write(hub.name, {});
    write_part(hub, from, values, 0, n);
  }

  void copy(const CheckpointTensor* source, const TensorSpec& hub) {
    HONE_CHECK(source != nullptr && checkpoint_.has_value(), "{} was read from nowhere and has no value",
               hub.name);
    const DType from = source->type().dtype.value_or(DType::kU8);
    const bool same = &source->type() == hub.type;  // else WeightPlan::store_as
    if (source->stored->size_bytes == 0) writer_.write(hub.name, {});
    for_each_piece(*source, [&](std::uint64_t offset, std::span<const std::byte> bytes) {
      if (same) return writer_.write_part(hub.name, offset, bytes);
      const std::size_t n = bytes.size() / size_of(from);
      write_part(hub, from, bytes.data(), offset / size_of(from), n);
    });
  }

  SaveReport take_report() { return std::move(report_); }

 private:
  /// Elements `first` to `first` + `n`, of another dtype than the file's.
  void write_part(const TensorSpec& hub, DType from, const std::byte* values, std::size_t first,
                  std::size_t n) {
    const DType to = *hub.type->dtype;
    if (from == to) return writer_.write_part(hub.name, first * size_of(to), {values, n * size_of(to)});
    const bool is_noted =
        !report_.overflowed.empty() && report_.overflowed.back().starts_with(hub.name + ":");
    if (to == DType::kF16 && !is_noted)
      if (const auto value = overflow_to_f16(from, values, n))
        report_.overflowed.push_back(fmt::format("{}: {}", hub.name, *value));
    buffer_.resize(std::min(n, kChunk) * size_of(to));
    for (std::size_t done = 0; done < n; done += kChunk) {
      const std::size_t count = std::min(kChunk, n - done);
      convert_unaligned(from, values + done * size_of(from), to, buffer_.data(), count);
      writer_.write_part(hub.name, (first + done) * size_of(to), {buffer_.data(), count * size_of(to)});
    }
  }

  /// The bytes as load() pinned them; without load(), as they are.
  void for_each_piece(const CheckpointTensor& source,
                      const std::function<void(std::uint64_t, std::span<const std::byte>)>& take) {
    if (const auto pinned = pins_.find(&source); pinned != pins_.end())
      return pinned->second.for_each_piece(take);
    auto unpinned = checkpoint_->to_pin(source);
    std::vector<std::byte> bytes(PinnedBytes::kPiece);
    for (std::size_t i = 0; i < unpinned.num_pieces(); ++i) {
      const auto piece = std::span(bytes).first(unpinned.size_of_piece(i));
      unpinned.pin(i, piece);
      take(i * PinnedBytes::kPiece, piece);
    }
  }

  CheckpointWriter& writer_;
  const std::optional<Checkpoint>& checkpoint_;
  const Pins& pins_;
  SaveReport report_;
  std::vector<std::byte> buffer_;
};

bool same_values(const Checkpoint& checkpoint, const CheckpointTensor& a, const CheckpointTensor& b) {
  if (a.shape() != b.shape()) return false;
  const auto a_bytes = checkpoint.bytes(a);
  const auto b_bytes = checkpoint.bytes(b);
  if (&a.type() == &b.type())
    return std::equal(a_bytes.begin(), a_bytes.end(), b_bytes.begin(), b_bytes.end());
  if (!is_weight_type(a.type()) || !is_weight_type(b.type())) return false;
  const auto n = static_cast<std::size_t>(a.shape().numel());
  std::array<std::vector<float>, 2> values;
  for (std::size_t done = 0; done < n; done += kChunk) {
    const std::size_t count = std::min(kChunk, n - done);
    for (std::size_t side = 0; side < 2; ++side) {
      const DType from = *(side == 0 ? a : b).type().dtype;
      values[side].resize(count);
      convert_unaligned(from, (side == 0 ? a_bytes : b_bytes).data() + done * size_of(from), DType::kF32,
                        reinterpret_cast<std::byte*>(values[side].data()), count);
    }
    if (values[0] != values[1]) return false;
  }
  return true;
}

}  // namespace

TieState tie_state(const Checkpoint& checkpoint, std::string_view copy, std::string_view original) {
  const auto* a = find_tolerant(checkpoint, copy);
  const auto* b = find_tolerant(checkpoint, original);
  if (a == nullptr || b == nullptr) return TieState::kAbsent;
  const bool is_same = same_values(checkpoint, *a, *b);
  checkpoint.release(*a);
  checkpoint.release(*b);
  return is_same ? TieState::kEqual : TieState::kDifferent;
}

std::size_t WeightPlan::index_of(std::string_view name) const {
  const auto found = index_of_.find(std::string(name));
  HONE_CHECK(found != index_of_.end(), "no parameter {}", name);
  return found->second;
}

SaveReport WeightPlan::save(CheckpointWriter& writer,
                            const std::function<std::optional<Source>(std::size_t)>& source) const {
  Saver saver(writer, checkpoint_, *pins_);
  for (std::size_t p = 0; p < parameters_.size(); ++p) {
    const auto from = source(p);
    const auto* values = from ? static_cast<const std::byte*>(from->data) : nullptr;
    for (const auto& piece : parameters_[p].pieces) {
      if (from) {
        saver.write(piece.hub, from->dtype,
                    values + static_cast<std::size_t>(piece.offset) * size_of(from->dtype));
      } else {
        saver.copy(piece.source, piece.hub);
      }
    }
    for (const auto& copy : tied_copies_) {
      if (copy.parameter != p) continue;
      if (from) {
        saver.write(copy.hub, from->dtype, values);
      } else {
        saver.copy(copy.source, copy.hub);
      }
    }
  }
  for (const auto* tensor : passed_through_) saver.copy(tensor, tensor->stored->spec);
  for (const auto* tensor : silent_) saver.copy(tensor, tensor->stored->spec);
  return saver.take_report();
}

CheckpointWriter WeightPlan::writer(const std::filesystem::path& target, IfExists if_exists,
                                    std::uint64_t max_shard_bytes) const {
  if (checkpoint_) return CheckpointWriter::like(*checkpoint_, target, if_exists, stored_types_);
  std::vector<NewTensor> tensors;
  for (const std::size_t p : write_order_)
    for (const auto& piece : parameters_[p].pieces) tensors.push_back({piece.hub, piece.group});
  return CheckpointWriter::fresh(tensors, target, if_exists, max_shard_bytes);
}

void WeightPlan::store_as(DType dtype) {
  const auto* type = &stored_type(dtype);
  const auto store = [&](TensorSpec& hub) {
    hub.type = type;
    stored_types_[hub.name] = type;
  };
  for (auto& parameter : parameters_)
    for (auto& piece : parameter.pieces) store(piece.hub);
  for (auto& copy : tied_copies_) store(copy.hub);
}

std::uint64_t WeightPlan::total_bytes() const {
  if (checkpoint_) return CheckpointWriter::size_bytes(*checkpoint_, stored_types_);
  std::uint64_t total = 0;
  for (const auto& parameter : parameters_)
    for (const auto& piece : parameter.pieces) total += piece.hub.size_bytes();
  return total;
}

}  // namespace hone::hub
