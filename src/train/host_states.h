// What an optimizer keeps, in memory of the host: brought to the device for an update, and back.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "ops/context.h"
#include "tensor/tensor.h"

namespace hone::train {

/// What an optimizer keeps of a parameter, or of neighbouring elements of one. What it does not keep is
/// undefined.
struct States {
  Tensor master = {};              // f32, or the weight itself
  Tensor first = {}, second = {};  // AdamW: exp_avg, exp_avg_sq. SGD: momentum buffer, none
  Tensor first_scales = {},
         second_scales = {};  // of eight-bit moments: one for kernels::kMomentBlock of them
};

/// States in pinned memory of the host. An update takes them by pieces through a few buffers on the device,
/// each piece on three streams: one brings it, the updates' own updates it, one takes it back. Events order
/// them, and the host waits for none: so piece i + 2 arrives and piece i leaves while piece i + 1 is updated,
/// and all of it while the updates' stream does what it was given before. Pieces are brought in the order
/// of the last round before they are asked for, so that only a bus that is slower than all else is waited
/// for. (ZeRO-Offload, Ren et al., arXiv:2101.06840, computes the update on the host instead, which then
/// takes a core's time for what a card does while the bytes pass.)
class HostStates {
 public:
  /// Three: one arrives, one is updated, one leaves. At 32 MiB a piece of 10 us of latency loses 2 % of a bus
  /// of 64 GB/s.
  static constexpr std::size_t kPieceBytes = std::size_t{32} << 20, kBuffers = 3;
  using MakeStream = std::function<std::unique_ptr<device::Stream>()>;

  /// Whether a context's memory is not the host's: else there is nothing to bring. Of the meta device: of
  /// what it stands for.
  static bool are_apart(const ops::Context& context);

  /// `context` outlives this. piece_bytes: of all states of a piece; make_stream: of the context's device;
  /// null: device::make_stream.
  explicit HostStates(ops::Context& context, std::size_t piece_bytes = kPieceBytes,
                      const MakeStream& make_stream = nullptr);
  ~HostStates();
  HostStates(const HostStates&) = delete;
  HostStates& operator=(const HostStates&) = delete;

  /// Zeros in memory of the host, counted there as Purpose::kOptimizer. Throws Error(kUser).
  Tensor zeros(const Shape& shape, DType dtype);
  /// All states of a parameter of `elements`, made by zeros(); at least one. Returns its number.
  std::size_t add(States states, std::int64_t elements);
  /// After the last add(): takes the buffers on the device (Purpose::kOptimizer), no more than are needed.
  void allocate();

  /// A round: each parameter is updated at most once.
  void begin_round();
  /// `states`: elements [begin, end) of the parameter on the device, to be read and written by what `work`
  /// puts into `stream`: the context's, or one that it waits for before the round's end.
  using Work = std::function<void(std::int64_t begin, std::int64_t end, const States& states)>;
  void update(std::size_t parameter, device::Stream& stream, const Work& work);
  /// Waits until all states are in the host's memory, and the host may read and write them there.
  void wait();

 private:
  struct Parameter {
    States states;
    std::int64_t elements = 0, piece = 0;  // in all, and of a piece but the last
  };
  struct Piece {
    std::size_t parameter = 0;
    std::int64_t begin = 0, end = 0;
    bool operator==(const Piece&) const = default;
  };
  struct Place {  // of a piece on the device
    std::shared_ptr<device::Buffer> memory;
    std::shared_ptr<const device::Event> left = nullptr;  // its last piece is back; null: it had none
  };
  struct Brought {
    Piece piece;
    std::size_t place = 0;
    std::shared_ptr<const device::Event> arrived;
  };
  void expect(std::size_t parameter);
  void bring_ahead();
  Brought take(const Piece& piece);
  /// Elements of a parameter's states in the host's memory.
  States of_host(const Piece& piece) const;
  /// The same in a place on the device. Without memory: only how many bytes that takes.
  static States laid_out(const States& shapes, const std::shared_ptr<device::Buffer>& memory,
                         std::size_t& bytes);

  ops::Context& context_;
  std::unique_ptr<device::Stream> there_, back_;
  std::size_t piece_bytes_;
  std::vector<Parameter> parameters_;
  std::vector<Place> places_;
  std::size_t next_place_ = 0;
  std::shared_ptr<const device::Event> all_back_;  // the last piece that was updated is; null: none was
  std::deque<Piece> expected_;                     // in order, not yet on their way
  std::deque<Brought> brought_;                    // on their way or there, not yet updated
  std::vector<std::size_t> order_, last_order_;    // of this round's parameters, and of the last's
};

}  // namespace hone::train
