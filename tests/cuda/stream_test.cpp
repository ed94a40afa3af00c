// Streams and memory of a card (device/cuda). On the emulated one work really runs late.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/error.h"
#include "device/cuda_device.h"
#include "device/stream.h"

namespace hone::device {
namespace {

using testing::HasSubstr;

constexpr Device kCard{DeviceType::kCuda, 0};

std::vector<std::byte> numbered(std::size_t n) {
  std::vector<std::byte> bytes(n);
  for (std::size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(i * 7 + i / 251);
  return bytes;
}
std::vector<std::byte> bytes_of(const Buffer& buffer) {
  const auto* data = static_cast<const std::byte*>(buffer.data());
  return {data, data + buffer.size_bytes()};
}
std::string error_of(const auto& work) {
  try {
    work();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

/// With pooled memory and with an allocation for each buffer.
class CudaStreams : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { ::setenv("HONE_GUARDED", GetParam() ? "1" : "0", 1); }
  void TearDown() override { ::unsetenv("HONE_GUARDED"); }
};

TEST_P(CudaStreams, BytesGoThereAndBackInOrder) {
  const auto stream = make_stream(kCard);
  EXPECT_EQ(stream->device(), kCard);
  EXPECT_FALSE(stream->is_meta());
  for (const std::size_t n :
       {std::size_t{0}, std::size_t{1}, std::size_t{1000}, (std::size_t{17} << 20) + 3}) {
    const auto a = stream->allocator().allocate(n, Purpose::kData);
    const auto b = stream->allocator().allocate(n, Purpose::kData);
    auto bytes = numbered(n);
    const auto back = stream->host_memory(n), filled = stream->host_memory(n);
    stream->upload(bytes, a->data());
    const auto want = bytes;
    std::fill(bytes.begin(), bytes.end(), std::byte{1});  // the caller's again
    stream->copy(a->data(), b->data(), n);
    stream->fill(a->data(), 0xab, n);
    stream->download(b->data(), back);
    stream->download(a->data(), filled);
    const auto event = stream->record();
    event->wait();
    EXPECT_TRUE(event->is_done());
    EXPECT_EQ(bytes_of(*back), want) << n;
    EXPECT_EQ(bytes_of(*filled), std::vector<std::byte>(n, std::byte{0xab})) << n;
  }
}

TEST_P(CudaStreams, PinnedMemoryGoesThereAndBackWithoutAStop) {
  const auto stream = make_stream(kCard), other = make_stream(kCard);
  constexpr std::size_t kSize = 100'000;
  auto pinned = stream->pinned_memory(kSize, Purpose::kOptimizer);
  EXPECT_EQ(stream->host_ledger().current(Purpose::kOptimizer), static_cast<std::int64_t>(kSize));
  EXPECT_EQ(stream->allocator().ledger().current_total(), 0);
  const auto there = stream->allocator().allocate(kSize, Purpose::kData);
  other->wait(*stream->record());
  for (int round = 0; round < 20; ++round) {
    std::memset(pinned->data(), round, kSize);
    other->upload(pinned, there->data());
    stream->wait(*other->record());
    const auto back = stream->host_memory(kSize);
    stream->download(there->data(), back);
    stream->fill(there->data(), 0xab, kSize);
    stream->download(there->data(), pinned);
    const auto done = stream->record();
    other->wait(*done);
    done->wait();
    EXPECT_EQ(bytes_of(*back), std::vector<std::byte>(kSize, std::byte(round)));
    EXPECT_EQ(bytes_of(*pinned), std::vector<std::byte>(kSize, std::byte{0xab}));
  }
  stream->synchronize();  // lets go of what was on its way
  other->synchronize();
  pinned.reset();
  EXPECT_EQ(stream->host_ledger().current_total(), 0);
}

TEST_P(CudaStreams, MemoryThatIsLetGoOfIsTheNextOnesAfterItsLastUse) {
  const auto stream = make_stream(kCard);
  std::vector<std::shared_ptr<Buffer>> back;
  for (int i = 0; i < 50; ++i) {
    const auto buffer = stream->allocator().allocate(4096, Purpose::kActivations);
    stream->fill(buffer->data(), static_cast<std::uint8_t>(i), 4096);
    back.push_back(stream->host_memory(4096));
    stream->download(buffer->data(), back.back());
  }
  stream->synchronize();
  for (int i = 0; i < 50; ++i)
    EXPECT_EQ(bytes_of(*back[static_cast<std::size_t>(i)]), std::vector<std::byte>(4096, std::byte(i)));
  EXPECT_EQ(stream->allocator().ledger().current_total(), 0);
  EXPECT_EQ(stream->allocator().ledger().peak(Purpose::kActivations), 4096);
}

TEST_P(CudaStreams, EventsOrderTwoStreams) {
  const auto first = make_stream(kCard), second = make_stream(kCard);
  const auto buffer = first->allocator().allocate(1 << 16, Purpose::kData);
  for (int i = 0; i < 20; ++i) {
    first->fill(buffer->data(), static_cast<std::uint8_t>(i), 1 << 16);
    second->wait(*first->record());
    const auto back = second->host_memory(1 << 16);
    second->download(buffer->data(), back);
    const auto read = second->record();
    first->wait(*read);
    read->wait();
    EXPECT_EQ(bytes_of(*back), std::vector<std::byte>(1 << 16, std::byte(i)));
  }
}

TEST_P(CudaStreams, BuffersOutliveTheirStream) {
  auto stream = make_stream(kCard);
  const auto on_card = stream->allocator().allocate(1 << 12, Purpose::kData);
  const auto of_host = stream->host_memory(1 << 12);
  stream->fill(on_card->data(), 5, 1 << 12);
  stream->download(on_card->data(), of_host);
  stream.reset();
  EXPECT_EQ(bytes_of(*of_host), std::vector<std::byte>(1 << 12, std::byte{5}));
}

TEST_P(CudaStreams, WorkFromAnotherThread) {
  const auto stream = make_stream(kCard);
  const auto back = stream->host_memory(100);
  std::thread([&] {
    const auto buffer = stream->allocator().allocate(100, Purpose::kData);
    stream->fill(buffer->data(), 9, 100);
    stream->download(buffer->data(), back);
  }).join();
  stream->synchronize();
  EXPECT_EQ(bytes_of(*back), std::vector<std::byte>(100, std::byte{9}));
}

TEST_P(CudaStreams, OutOfMemoryNamesPurposeSizesAndCard) {
  const auto stream = make_stream(kCard);
  const auto held = stream->allocator().allocate(std::size_t{3} << 20, Purpose::kWeights);
  const std::string text =
      error_of([&] { (void)stream->allocator().allocate(std::size_t{1} << 50, Purpose::kActivations); });
  EXPECT_THAT(text, HasSubstr("out of memory: 1073741824.0 MiB more for activations"));
  EXPECT_THAT(text, HasSubstr("weights 3.0"));
  EXPECT_THAT(text, HasSubstr("cuda:0 has "));
  const auto after = stream->allocator().allocate(std::size_t{1} << 20, Purpose::kData);  // goes on
  stream->fill(after->data(), 1, after->size_bytes());
  stream->synchronize();
}

INSTANTIATE_TEST_SUITE_P(, CudaStreams, testing::Bool(),
                         [](const auto& test) { return test.param ? "Guarded" : "Pooled"; });

TEST(CudaPool, StepsThatRepeatTakeNothingNew) {
  ::unsetenv("HONE_GUARDED");
  const auto stream = make_stream(kCard);
  std::int64_t held[3] = {};
  for (std::int64_t& after : held) {
    std::vector<std::shared_ptr<Buffer>> buffers;
    for (const std::size_t size : {100U, 70'000U, 3U << 20, 100U, 5U << 20})
      buffers.push_back(stream->allocator().allocate(size, Purpose::kActivations));
    after = stream->allocator().held_bytes();
  }
  EXPECT_EQ(held[0], held[1]);
  EXPECT_EQ(held[0], held[2]);
  stream->allocator().trim();
  EXPECT_EQ(stream->allocator().held_bytes(), 0);
}

TEST(CudaDevice, ReportsTheCard) {
  const CudaReport report = cuda_report();
  EXPECT_TRUE(report.built);
  EXPECT_EQ(report.why_none, "");
  ASSERT_GE(report.cards.size(), 1U);
  EXPECT_GE(report.cards[0].major, 8);
  EXPECT_GT(report.cards[0].multiprocessors, 0);
  EXPECT_GT(report.cards[0].shared_bytes_per_block, 48U << 10);
}

TEST(CudaDevice, ACardThatIsNotThere) {
  EXPECT_THAT(error_of([] {
                (void)make_stream({DeviceType::kCuda, 99});
              }),
              HasSubstr("device cuda:99: there "));
}

}  // namespace
}  // namespace hone::device
