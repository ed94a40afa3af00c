// Walking a WeightPlan: saving, and comparing tied tensors.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "base/message.h"
#include "hub/tolerant_lookup.h"
#include "hub/weight_rules.h"

namespace hone::hub {

namespace {

constexpr std::size_t kChunk = std::size_t{1} << 16;      // elements converted at a time
constexpr std::int64_t kCoded = std::int64_t{1} << 20;    // elements of a quantised tensor coded at a time
constexpr std::int64_t kDecoded = std::int64_t{1} << 24;  // elements of a quantised tensor decoded at a time

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

template <typename Bits>
void gather(const std::byte* from, const std::int64_t* offsets, std::byte* to, std::int64_t n) {
  const auto* memory = reinterpret_cast<const Bits*>(from);
  auto* values = reinterpret_cast<Bits*>(to);
  for (std::int64_t i = 0; i < n; ++i) values[i] = memory[offsets[i]];
}

/// The values of a run, one after another.
void get(DType dtype, const std::byte* memory, const MapWalk::Run& run, std::byte* values) {
  memory += static_cast<std::size_t>(run.memory) * size_of(dtype);
  if (run.offsets == nullptr) {
    std::memcpy(values, memory, static_cast<std::size_t>(run.count) * size_of(dtype));
    return;
  }
  switch (size_of(dtype)) {
    case 2:
      return gather<std::uint16_t>(memory, run.offsets, values, run.count);
    case 4:
      return gather<std::uint32_t>(memory, run.offsets, values, run.count);
    default:
      return gather<std::uint64_t>(memory, run.offsets, values, run.count);
  }
}

/// Reads on through pinned bytes, verifying each piece once.
class PinnedReader {
 public:
  explicit PinnedReader(const PinnedBytes& pinned) : pinned_(pinned) {}
  void read(std::uint64_t offset, std::span<std::byte> bytes) {
    for (std::size_t done = 0; done < bytes.size();) {
      const std::size_t piece = static_cast<std::size_t>(offset + done) / PinnedBytes::kPiece;
      const std::size_t at = static_cast<std::size_t>(offset + done) % PinnedBytes::kPiece;
      if (piece != piece_ || bytes_.empty()) {
        bytes_.resize(pinned_.size_of_piece(piece));
        pinned_.read_piece(piece, bytes_);
        piece_ = piece;
      }
      const std::size_t n = std::min(bytes.size() - done, bytes_.size() - at);
      std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at), n,
                  bytes.begin() + static_cast<std::ptrdiff_t>(done));
      done += n;
    }
  }

 private:
  const PinnedBytes& pinned_;
  std::size_t piece_ = 0;
  std::vector<std::byte> bytes_;
};

}  // namespace

/// One save under way.
class WeightPlan::Saver {
 public:
  Saver(const WeightPlan& plan, Team& team, CheckpointWriter& writer)
      : plan_(plan), team_(team), writer_(writer) {}

  /// A parameter's values, or a region of them; nullopt: as they were read.
  void write_parameter(std::size_t p, const std::optional<Source>& from) {
    for (const auto& piece : plan_.parameters_[p].pieces) {
      const bool is_coded = piece.quantized && !plan_.dequantizes_;
      if (is_coded && from) {
        encode_piece(piece, *from);
      } else if (is_coded && !piece.map.takes_all()) {
        const Region box = piece.map.bounds();
        std::vector<float> values(static_cast<std::size_t>(Shape(box.size).numel()));
        plan_.read_pieces(team_, {&piece, 1}, p,
                          {.data = values.data(), .dtype = DType::kF32, .region = box});
        encode_piece(piece, {values.data(), DType::kF32, box});  // the blocks keep their bits
      } else if (is_coded) {
        copy(piece.source, piece.hub, piece.map);
        copy(piece.quantized->read.scales, piece.quantized->read.scales->stored->spec);
      } else if (piece.quantized && from) {
        write(piece.quantized->plain, piece.quantized->plain_map, *from);
      } else if (piece.quantized) {
        decode_piece(p, piece);
      } else if (from) {
        write(piece.hub, piece.map, *from);
      } else {
        copy(piece.source, piece.hub, piece.map);
      }
    }
    for (const auto& copied : plan_.tied_copies_) {
      if (copied.parameter != p) continue;
      if (from) {
        write(copied.hub, WeightMap::whole(copied.hub.shape), *from);
      } else {
        copy(copied.source, copied.hub);
      }
    }
  }
  /// A tensor's bytes as they were read.
  void copy(const CheckpointTensor* source, const TensorSpec& hub) {
    copy(source, hub, WeightMap::whole(hub.shape));
  }
  SaveReport take_report() { return std::move(report_); }

 private:
  /// A parameter's values, or those of the region that `source` has.
  void write(const TensorSpec& hub, const WeightMap& map, const Source& source) {
    const DType from = source.dtype;
    const auto* memory = static_cast<const std::byte*>(source.data);
    const std::int64_t all = map.stored_elements();
    const MapWalk walk(map, source.region);
    if (all == 0) writer_.write(hub.name, {});
    if (walk.is_one_run())
      return walk.for_each_run(0, all, [&](const MapWalk::Run& run) {
        write_part(hub, from, memory + static_cast<std::size_t>(run.memory) * size_of(from), 0,
                   static_cast<std::size_t>(all));
      });
    gathered_.resize(kChunk * size_of(from));
    constexpr auto kStep = static_cast<std::int64_t>(kChunk);
    for (std::int64_t first = 0; first < all; first += kStep) {
      const std::int64_t n = std::min(kStep, all - first);
      write_intervals(hub, walk, from, gathered_.data(), first, n, [&](const MapWalk::Run& run) {
        get(from, memory, run,
            gathered_.data() + static_cast<std::size_t>(run.stored - first) * size_of(from));
      });
    }
  }

  /// The bytes that were read.
  void copy(const CheckpointTensor* source, const TensorSpec& hub, const WeightMap& map) {
    HONE_CHECK(source != nullptr && plan_.checkpoint_.has_value(),
               "{} was read from nowhere and has no value", hub.name);
    const DType from = source->type().dtype.value_or(DType::kU8);
    const bool same = &source->type() == hub.type;  // else WeightPlan::store_as
    if (source->stored->size_bytes == 0) writer_.write(hub.name, {});
    const bool all = map.takes_all();
    const MapWalk walk = all ? MapWalk() : MapWalk(map);
    pinned(*source).for_each_piece([&](std::uint64_t offset, std::span<const std::byte> bytes) {
      if (all && same) return writer_.write_part(hub.name, offset, bytes);
      const std::size_t n = bytes.size() / size_of(from);
      const std::size_t first = offset / size_of(from);
      if (all) return write_part(hub, from, bytes.data(), first, n);
      write_intervals(hub, walk, from, bytes.data(), static_cast<std::int64_t>(first),
                      static_cast<std::int64_t>(n), [](const MapWalk::Run&) {});
    });
  }

  /// Codes the values of a quantised tensor again, some rows of blocks at a time.
  void encode_piece(const WeightPiece& piece, const Source& source) {
    const BlockFormat& format = piece.quantized->read.format;
    const CheckpointTensor& scales_tensor = *piece.quantized->read.scales;
    const MapWalk walk(piece.map, source.region);
    const std::int64_t all = piece.map.stored_elements();
    if (all == 0) {
      writer_.write(piece.hub.name, {});
      writer_.write(scales_tensor.name(), {});
    }
    const PinnedBytes elements_pinned = pinned(*piece.source);
    const PinnedBytes scales_pinned = pinned(scales_tensor);
    PinnedReader elements_reader(elements_pinned);
    PinnedReader scales_reader(scales_pinned);
    std::vector<float> values;
    std::vector<std::byte> elements, scales;
    CodingError error;
    // Of a region each row of blocks by itself: the next one may be elsewhere.
    const auto least = source.region.size.empty() ? kCoded : 1;
    for (std::int64_t first = 0, n = 0; first < all; first += n) {
      n = 0;
      for (std::int64_t row = first / format.cols % format.rows; n < least && first + n < all;) {
        const std::int64_t rows = std::min(format.block_rows, format.rows - row);
        n += rows * format.cols;
        row = (row + rows) % format.rows;
      }
      gathered_.resize(static_cast<std::size_t>(n) * size_of(source.dtype));
      std::int64_t found = 0;
      walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
        get(source.dtype, static_cast<const std::byte*>(source.data), run,
            gathered_.data() + static_cast<std::size_t>(run.stored - first) * size_of(source.dtype));
        found += run.count;
      });
      if (found == 0) continue;
      HONE_CHECK(found == n, "a region cuts the blocks of {}: it has {} of {} values", piece.hub.name, found,
                 n);
      values.resize(static_cast<std::size_t>(n));
      convert(source.dtype, gathered_.data(), DType::kF32, values.data(), values.size());
      const ScaleRange range = scales_of(format, first, n);
      const auto element_offset = static_cast<std::uint64_t>(format.bytes_of(first));
      const auto scale_offset = static_cast<std::uint64_t>(range.first * format.scale_bytes());
      elements.resize(static_cast<std::size_t>(format.bytes_of(n)));
      scales.resize(static_cast<std::size_t>(range.count * format.scale_bytes()));
      elements_reader.read(element_offset, elements);
      scales_reader.read(scale_offset, scales);
      error += encode(team_, format, values.data(), source.dtype, first, n, elements.data(), scales.data(),
                      range.first);
      writer_.write_part(piece.hub.name, element_offset, elements);
      writer_.write_part(scales_tensor.name(), scale_offset, scales);
    }
    ++report_.coding.tensors;
    if (error.relative() <= report_.coding.worst_error) return;
    report_.coding.worst = piece.hub.name;
    report_.coding.worst_error = error.relative();
  }

  /// Writes the values of a quantised tensor as they were read, some at a time.
  void decode_piece(std::size_t p, const WeightPiece& piece) {
    const auto& plain = piece.quantized->plain;
    if (piece.map.elements() == 0) return writer_.write(plain.name, {});
    const DType dtype = *plain.type->dtype;
    const Region all = piece.map.bounds();
    std::int64_t row = 1;  // elements for each of the first dimension
    for (std::size_t d = 1; d < all.size.size(); ++d) row *= all.size[d];
    const std::int64_t step = std::max<std::int64_t>(1, kDecoded / row);
    std::vector<std::uint64_t> values;
    for (std::int64_t done = 0; done < all.size[0]; done += step) {
      Region part = all;
      part.begin[0] += done;
      part.size[0] = std::min(step, all.size[0] - done);
      values.resize((static_cast<std::size_t>(part.size[0] * row) * size_of(dtype) + 7) / 8);
      plan_.read_pieces(team_, {&piece, 1}, p, {.data = values.data(), .dtype = dtype, .region = part});
      write(plain, piece.quantized->plain_map, {values.data(), dtype, part});
    }
  }

  /// Of the stored elements [first, first + n), whose values begin at `values`, those that the walk has:
  /// `visit` sees each run before it is written.
  template <typename F>
  void write_intervals(const TensorSpec& hub, const MapWalk& walk, DType from, const std::byte* values,
                       std::int64_t first, std::int64_t n, F&& visit) {
    std::int64_t begin = first, end = first;
    const auto flush = [&] {
      if (begin < end)
        write_part(hub, from, values + static_cast<std::size_t>(begin - first) * size_of(from),
                   static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    };
    walk.for_each_run(first, n, [&](const MapWalk::Run& run) {
      if (run.stored != end) {
        flush();
        begin = run.stored;
      }
      visit(run);
      end = run.stored + run.count;
    });
    flush();
  }

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
  PinnedBytes pinned(const CheckpointTensor& source) const {
    const auto found = plan_.pins_->find(&source);
    return found != plan_.pins_->end() ? found->second : plan_.checkpoint_->to_pin(source);
  }

  const WeightPlan& plan_;
  Team& team_;
  CheckpointWriter& writer_;
  SaveReport report_;
  std::vector<std::byte> buffer_, gathered_;
};

namespace {

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

SaveReport WeightPlan::save(Team& team, CheckpointWriter& writer,
                            const std::function<std::optional<Source>(std::size_t)>& source) const {
  Saver saver(*this, team, writer);
  for (std::size_t p = 0; p < parameters_.size(); ++p) saver.write_parameter(p, source(p));
  for (const auto* tensor : passed_through_) saver.copy(tensor, tensor->stored->spec);
  for (const auto* tensor : silent_) saver.copy(tensor, tensor->stored->spec);
  return saver.take_report();
}

SaveReport WeightPlan::save_parameter(Team& team, CheckpointWriter& writer, std::size_t parameter,
                                      const Source& source) const {
  Saver saver(*this, team, writer);
  saver.write_parameter(parameter, source);
  return saver.take_report();
}

std::string coding_text(const SaveReport::Coding& coding) {
  std::string text =
      fmt::format("quantised again: {} tensor{}", coding.tensors, coding.tensors == 1 ? "" : "s");
  if (coding.worst_error == 0) return text + ", none of whose values had changed";
  return text +
         fmt::format(", error up to {:.2f} % (root mean square, {})", 100 * coding.worst_error, coding.worst);
}

std::vector<NewTensor> WeightPlan::new_tensors() const {
  std::vector<NewTensor> tensors;
  std::unordered_set<std::string> names;
  for (const std::size_t p : write_order_)
    for (const auto& piece : parameters_[p].pieces)
      if (names.insert(piece.hub.name).second) tensors.push_back({piece.hub, piece.group});
  return tensors;
}

CheckpointWriter WeightPlan::writer(const std::filesystem::path& target, IfExists if_exists,
                                    std::uint64_t max_shard_bytes) const {
  if (checkpoint_) return CheckpointWriter::like(*checkpoint_, target, if_exists, changes_);
  return CheckpointWriter::fresh(new_tensors(), target, if_exists, max_shard_bytes);
}

void WeightPlan::store_as(DType dtype) {
  dequantize(dtype);
  const auto store = [&](TensorSpec& hub) {
    hub.type = &stored_type(dtype);
    changes_[hub.name] = hub;
  };
  for (auto& parameter : parameters_)
    for (auto& piece : parameter.pieces)
      if (!parameter.stays_f32 && !piece.quantized) store(piece.hub);
  for (auto& copy : tied_copies_) store(copy.hub);
}

void WeightPlan::dequantize(DType dtype) {
  if (!has_quantized()) return;
  dequantizes_ = true;
  for (auto& parameter : parameters_)
    for (auto& piece : parameter.pieces) {
      if (!piece.quantized) continue;
      piece.quantized->plain.type = &stored_type(dtype);
      changes_[piece.hub.name] = piece.quantized->plain;
      changes_[piece.quantized->read.scales->name()] = std::nullopt;
    }
}

bool WeightPlan::has_quantized() const {
  return std::any_of(parameters_.begin(), parameters_.end(), [](const PlannedParameter& parameter) {
    return std::any_of(parameter.pieces.begin(), parameter.pieces.end(),
                       [](const WeightPiece& piece) { return piece.quantized.has_value(); });
  });
}

std::uint64_t WeightPlan::total_bytes() const {
  if (checkpoint_) return CheckpointWriter::size_bytes(*checkpoint_, changes_);
  std::uint64_t total = 0;
  for (const auto& tensor : new_tensors()) total += tensor.spec.size_bytes();
  return total;
}

}  // namespace hone::hub
