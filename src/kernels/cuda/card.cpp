#include "kernels/cuda/card.h"

#include <algorithm>

#include "base/error.h"
#include "device/cuda/check.h"
#include "device/cuda/cuda_stream.h"
#include "kernels/card_work.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/cudnn.h"
#include "kernels/cuda/hopper_path.h"
#include "kernels/cuda/register.h"

namespace hone::kernels {

namespace {

using device::cuda::check;

/// Device memory that holds zeros.
class Zeros {
 public:
  Zeros(Stream& stream, std::int64_t bytes)
      : buffer_(stream.allocator().allocate(static_cast<std::size_t>(bytes), device::Purpose::kWorkspace)) {
    stream.fill(buffer_->data(), 0, buffer_->size_bytes());
  }
  void* data() const { return buffer_->data(); }

 private:
  std::shared_ptr<device::Buffer> buffer_;
};

/// The least seconds of several runs of `work`, which puts something into the stream; 0 where it took none.
template <typename Work>
double best_seconds(Stream& stream, int runs, const Work& work) {
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "cudaEventCreate");
  check(cudaEventCreate(&end), "cudaEventCreate");
  float best = 0;
  for (int i = 0; i <= runs; ++i) {  // the first warms up
    check(cudaEventRecord(begin, device::cuda_stream(stream)), "cudaEventRecord");
    work();
    check(cudaEventRecord(end, device::cuda_stream(stream)), "cudaEventRecord");
    check(cudaEventSynchronize(end), "cudaEventSynchronize");
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
    if (i == 1 || (i > 1 && milliseconds < best)) best = milliseconds;
  }
  check(cudaEventDestroy(begin), "cudaEventDestroy");
  check(cudaEventDestroy(end), "cudaEventDestroy");
  return best / 1e3;
}

/// GFLOP/s of square products, ever larger as long as that helps.
double product_rate(Stream& stream, DType dtype) {
  const auto matmul = cuda_kernels().matmul;
  double best = 0;
  for (std::int64_t n = 256; matmul != nullptr && n <= 8192; n *= 2) {
    const Zeros a(stream, n * n * 4), b(stream, n * n * 4), c(stream, n * n * 4);
    MatmulArgs args;
    args.a = {a.data(), dtype, n, n, n};
    args.b = {b.data(), dtype, n, n, n};
    args.c = {c.data(), dtype, n, n, n};
    args.transpose_b = true;
    const double seconds = best_seconds(stream, 5, [&] { matmul(args, stream); });
    if (seconds == 0) return 0;
    const double rate = cost(args).flops / seconds / 1e9;
    if (rate < best) break;
    best = rate;
    if (seconds > 0.2) break;
  }
  return best;
}

}  // namespace

DeviceDescription describe_card(device::Device card) {
  const auto found = device::cuda::find_card(card.index);
  DeviceDescription description;
  description.processor = found.name;
  description.kernels = fmt::format("cuda_sm{}{}", found.major, found.minor);
  description.available = {description.kernels};
  description.multiplies_bf16 = true;
  description.library = cuda::describe_vendor_library();
  description.attention_library = cuda::describe_cudnn();
  return description;
}

CardTarget target_of(device::Device card) {
  const auto found = device::cuda::find_card(card.index);
  CardTarget target{.card = nearest_card(found.name, found.major, found.minor),
                    .no_cublaslt = cuda::why_no_vendor_library(),
                    .no_cudnn = cuda::why_no_cudnn(),
                    .no_wgmma = cuda::why_not_hopper(found)};
  target.card.major = found.major;
  target.card.minor = found.minor;
  target.card.multiprocessors = found.multiprocessors;
  return target;
}

ComputePeak measure_card_compute(device::Device card) {
  const auto stream = device::make_cuda_stream(card, 1, 0);
  ComputePeak peak;
  peak.f32 = product_rate(*stream, DType::kF32);
  peak.bf16 = product_rate(*stream, DType::kBF16);
  return peak;
}

MemoryPeak measure_card_memory(device::Device card) {
  const auto stream = device::make_cuda_stream(card, 1, 0);
  // A try at 64 KiB tells whether there is anything to measure.
  for (std::int64_t n : {std::int64_t{16} << 10, std::int64_t{64} << 20}) {
    const Zeros a(*stream, n * 4), b(*stream, n * 4), scalars(*stream, sizeof(StepScalars));
    const auto bytes = static_cast<double>(n * 4);
    const Matrix x{a.data(), DType::kF32, n / 1024, 1024, 1024},
        y{b.data(), DType::kF32, n / 1024, 1024, 1024};
    const double copied =
        best_seconds(*stream, 5, [&] { stream->copy(a.data(), b.data(), static_cast<std::size_t>(n * 4)); });
    if (copied == 0) return {};
    MemoryPeak peak;
    peak.copy = 2 * bytes / copied / 1e9;
    const auto rate = [&](double moved, const auto& work) {
      const double seconds = best_seconds(*stream, 5, work);
      return seconds == 0 ? 0 : moved / seconds / 1e9;
    };
    if (const auto sum = cuda_kernels().sum_of_squares)
      peak.read = rate(bytes, [&] {
        sum({.x = a.data(), .n = n, .scalars = static_cast<StepScalars*>(scalars.data())}, *stream);
      });
    if (const auto add = cuda_kernels().copy)
      peak.triad =
          rate(3 * bytes, [&] { add({.x = x, .y = y, .alpha = 0.5F, .accumulate = true}, *stream); });
    if (n > (1 << 20)) return peak;
  }
  return {};
}

}  // namespace hone::kernels
