// Tensors to and from host memory, on a device that shares it and on ones that do not.
#include "tensor/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "device/guarded_stream.h"

namespace hone {
namespace {

using testing::Each;
using testing::ElementsAre;

std::span<const std::byte> bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}
std::vector<float> floats(const device::Buffer& memory) {
  const auto* values = static_cast<const float*>(memory.data());
  return {values, values + memory.size_bytes() / sizeof(float)};
}

template <typename S>
std::unique_ptr<device::Stream> make() {
  if constexpr (std::is_same_v<S, device::GuardedStream>) return std::make_unique<S>(1);
  return std::make_unique<device::CpuStream>(device::make_allocator({}), 1);
}

template <typename S>
class Transfer : public testing::Test {
 protected:
  std::unique_ptr<device::Stream> stream_ = make<S>();
};
using Streams = testing::Types<device::CpuStream, device::GuardedStream>;
TYPED_TEST_SUITE(Transfer, Streams, );

TYPED_TEST(Transfer, ACopyIsOfTheTensorAsItWas) {
  auto& stream = *this->stream_;
  Tensor x = Tensor::from<float>(stream, std::vector<float>{1, 2, 3}, {3});
  const HostCopy before(stream, x);
  fill_with_zeros(stream, x);
  const HostCopy after(stream, x);
  x = Tensor();
  EXPECT_THAT(before.values<float>(), ElementsAre(1, 2, 3));
  EXPECT_THAT(after.values<float>(), Each(0));
}

TYPED_TEST(Transfer, AViewShowsWhatWasPutInTheStreamBeforeIt) {
  auto& stream = *this->stream_;
  const Tensor x = Tensor::zeros(stream, {2, 2}, DType::kF32);
  upload_bytes(stream, bytes_of({5, 6}), x.rows(1, 2));
  const HostView view(stream, x);
  const auto* values = reinterpret_cast<const float*>(view.data());
  EXPECT_THAT(std::vector<float>(values, values + 4), ElementsAre(0, 0, 5, 6));
}

TYPED_TEST(Transfer, StagedBytesArriveWhenTheyAreSent) {
  auto& stream = *this->stream_;
  const Tensor x = Tensor::zeros(stream, {2}, DType::kF32);
  Staging staging(stream, x);
  ASSERT_EQ(staging.bytes().size(), 8U);
  const std::vector<float> values{7, 8};
  std::memcpy(staging.data(), values.data(), 8);
  EXPECT_EQ(static_cast<void*>(staging.data()) == x.data(), stream.shares_host_memory());
  staging.send();
  EXPECT_THAT(HostCopy(stream, x).values<float>(), ElementsAre(7, 8));
}

TYPED_TEST(Transfer, CopiesOnTheDevice) {
  auto& stream = *this->stream_;
  const Tensor x = Tensor::from<float>(stream, std::vector<float>{1, 2}, {2});
  const Tensor y = Tensor::zeros(stream, {2}, DType::kF32);
  copy_bytes(stream, x, y);
  EXPECT_THAT(HostCopy(stream, y).values<float>(), ElementsAre(1, 2));
}

TYPED_TEST(Transfer, RefusesWhatIsNotThatTensorsBytes) {
  auto& stream = *this->stream_;
  const Tensor x = Tensor::zeros(stream, {4, 2}, DType::kF32);
  EXPECT_THROW(upload_bytes(stream, bytes_of({1, 2}), x), Error);
  EXPECT_THROW(HostCopy(stream, x.columns(0, 1)), Error);
  EXPECT_THROW(HostCopy(stream, x).values<std::int32_t>(), Error);
  EXPECT_THROW(copy_bytes(stream, x, x.rows(0, 2)), Error);
  device::MetaStream meta(1);
  EXPECT_THROW(HostView(meta, x), Error);
  EXPECT_THROW(HostCopy().bytes(), Error);
}

TEST(TransferOfMeta, IsZerosAndNothing) {
  device::MetaStream meta(1);
  const Tensor x = Tensor::from<float>(meta, std::vector<float>{1, 2}, {2});
  EXPECT_THAT(HostCopy(meta, x).values<float>(), ElementsAre(0, 0));
  EXPECT_EQ(HostView(meta, x).data(), nullptr);
  Staging staging(meta, x);
  EXPECT_EQ(staging.data(), nullptr);
  staging.send();
  copy_bytes(meta, x, x.rows(0, 2));
}

TEST(CpuStream, DoesItsWorkAtOnce) {
  const auto stream = make<device::CpuStream>();
  const auto memory = stream->allocator().allocate(8, device::Purpose::kData);
  stream->upload(bytes_of({1, 2}), memory->data());
  EXPECT_THAT(floats(*memory), ElementsAre(1, 2));
  const auto event = stream->record();
  EXPECT_TRUE(event->is_done());
  stream->wait(*event);
  stream->fill(memory->data(), 0, 4);
  EXPECT_THAT(floats(*memory), ElementsAre(0, 2));
}

TEST(GuardedStreamDeathTest, EndsAHostThatTouchesDeviceMemory) {
  device::GuardedStream stream(1);
  const Tensor x = Tensor::zeros(stream, {4}, DType::kF32);
  EXPECT_DEATH(x.as<float>()[1] = 1, "device memory was touched outside of kernels and verbs");
  EXPECT_DEATH(fmt::print("{}", x.as<float>()[1]), "device memory was touched outside of kernels and verbs");
  const device::KernelScope kernel(stream);
  x.as<float>()[1] = 1;
}

TEST(GuardedStream, HandsOutGarbageAndTakesItBackAsSuch) {
  device::GuardedStream stream(1);
  const auto host = stream.host_memory(4);
  EXPECT_TRUE(std::isnan(floats(*host)[0]));
  Tensor x = Tensor::empty(stream.allocator(), {2}, DType::kF32);
  EXPECT_TRUE(std::isnan(HostCopy(stream, x).values<float>()[1]));
  const auto* address = x.as<float>();
  // While something lies behind it; else its pages are gone, and reading them ends the program.
  const Tensor behind = Tensor::empty(stream.allocator(), {2}, DType::kF32);
  fill_with_zeros(stream, x);
  x = Tensor();
  const device::KernelScope kernel(stream);
  EXPECT_TRUE(std::isnan(*address));
}

TEST(GuardedStream, ADownloadArrivesWhenSomebodyWaits) {
  device::GuardedStream stream(1);
  const Tensor x = Tensor::zeros(stream, {1}, DType::kF32);
  const auto first = stream.host_memory(4), second = stream.host_memory(4);
  stream.download(x.data(), first);
  const auto event = stream.record();
  stream.download(x.data(), second);
  EXPECT_TRUE(std::isnan(floats(*first)[0]));
  event->wait();
  EXPECT_THAT(floats(*first), ElementsAre(0));
  EXPECT_TRUE(std::isnan(floats(*second)[0]));
  stream.synchronize();
  EXPECT_THAT(floats(*second), ElementsAre(0));
}

TEST(GuardedStream, UsesMemoryAgain) {
  device::GuardedStream stream(1);
  std::vector<std::shared_ptr<device::Buffer>> blocks;
  for (const std::size_t pages : {1, 2, 3})
    blocks.push_back(stream.allocator().allocate(pages * 4096, device::Purpose::kData));
  void* const begin = blocks[0]->data();
  for (const std::size_t i : {0, 2, 1}) blocks[i].reset();
  EXPECT_EQ(stream.allocator().allocate(6 * 4096, device::Purpose::kData)->data(), begin);
  EXPECT_EQ(stream.allocator().ledger().peak_total(), 6 * 4096);
  EXPECT_EQ(stream.allocator().ledger().current_total(), 0);
}

}  // namespace
}  // namespace hone
