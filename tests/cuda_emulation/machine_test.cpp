// What is said on machines that have no card, or not one that will do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "device/out_of_memory.h"
#include "device/stream.h"

namespace hone::device {
namespace {

/// What the emulated machine lacks.
class WithoutACard : public testing::TestWithParam<std::pair<const char*, const char*>> {
 protected:
  void SetUp() override { ::setenv("HONE_CUDA_EMULATED_MACHINE", GetParam().first, 1); }
  void TearDown() override { ::unsetenv("HONE_CUDA_EMULATED_MACHINE"); }
};

TEST_P(WithoutACard, OneClearLine) {
  std::string text;
  try {
    (void)make_stream({DeviceType::kCuda, 0});
  } catch (const Error& e) {
    text = e.what();
  }
  EXPECT_THAT(text, testing::HasSubstr(GetParam().second));
  EXPECT_EQ(text.find('\n'), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, WithoutACard,
                         testing::Values(std::pair{"no-driver", "no NVIDIA driver is running here"},
                                         std::pair{"old-driver", "install a newer driver"},
                                         std::pair{"no-card", "the driver shows no card"},
                                         std::pair{"no-fabric", "nvidia-fabricmanager"},
                                         std::pair{"half-updated", "different versions"},
                                         std::pair{"turing", "has compute capability 7.5; hone needs 8.0"}),
                         [](const auto& test) {
                           std::string name = test.param.first;
                           std::erase(name, '-');
                           return name;
                         });

// The calling thread's card is what its last call asked for, whatever the end of a buffer or a stream of
// another card made of it.
TEST(TwoCards, StreamsOfOneThread) {
  ::setenv("HONE_CUDA_EMULATED_CARDS", "2", 1);
  ::setenv("HONE_GUARDED", "1", 1);
  const auto first = make_stream({DeviceType::kCuda, 0});
  auto second = make_stream({DeviceType::kCuda, 1});
  auto of_second = second->allocator().allocate(64, Purpose::kData);
  const auto of_first = first->allocator().allocate(64, Purpose::kData);
  const auto works = [&] {
    const auto back = first->host_memory(64);
    first->fill(of_first->data(), 3, 64);
    first->download(of_first->data(), back);
    first->record()->wait();
    EXPECT_EQ(*static_cast<const unsigned char*>(back->data()), 3);
  };
  works();
  of_second.reset();
  works();
  second.reset();
  works();
  ::unsetenv("HONE_GUARDED");
  ::unsetenv("HONE_CUDA_EMULATED_CARDS");
}

/// A card of 3 GiB, of which other programs hold 1.5; 64 MiB of the host may be pinned.
class SmallMachine : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    ::setenv("HONE_GUARDED", GetParam() ? "1" : "0", 1);
    ::setenv("HONE_CUDA_EMULATED_MEMORY", "3221225472", 1);
    ::setenv("HONE_CUDA_EMULATED_OTHERS", "1610612736", 1);
    ::setenv("HONE_CUDA_EMULATED_PINNED", "67108864", 1);
  }
  void TearDown() override {
    for (const char* name :
         {"GUARDED", "CUDA_EMULATED_MEMORY", "CUDA_EMULATED_OTHERS", "CUDA_EMULATED_PINNED"})
      ::unsetenv((std::string("HONE_") + name).c_str());
  }
};

TEST_P(SmallMachine, OutOfMemorySaysWhatOthersHold) {
  const auto stream = make_stream({DeviceType::kCuda, 0});
  const auto held = stream->allocator().allocate(std::size_t{512} << 20, Purpose::kWeights);
  try {
    (void)stream->allocator().allocate(std::size_t{1200} << 20, Purpose::kActivations);
    ADD_FAILURE() << "more than there is";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.facts().asked, std::int64_t{1200} << 20);
    EXPECT_EQ(error.facts().taken, std::int64_t{512} << 20);
    EXPECT_EQ(error.facts().memory.available, std::int64_t{1024} << 20);
    EXPECT_EQ(error.facts().others(), std::int64_t{1536} << 20);
    EXPECT_THAT(error.what(),
                testing::HasSubstr("1200.0 MiB more for activations were refused (held, MiB: weights 512.0"));
    EXPECT_THAT(
        error.what(),
        testing::HasSubstr(
            "cuda:0 has 3.0 GiB, 1.0 GiB free, 1.5 GiB held by other programs (nvidia-smi lists them)"));
  }
  ::setenv("HONE_CUDA_EMULATED_OTHERS", "268435456", 1);  // as much as a driver may take for this program
  try {
    (void)stream->allocator().allocate(std::size_t{2800} << 20, Purpose::kActivations);
    ADD_FAILURE() << "more than there is";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(std::string(error.what()).find("other programs"), std::string::npos) << error.what();
  }
}

TEST_P(SmallMachine, PinnedMemoryThatIsRefused) {
  const auto stream = make_stream({DeviceType::kCuda, 0});
  const auto held = stream->pinned_memory(std::size_t{60} << 20, Purpose::kOptimizer);
  EXPECT_EQ(stream->host_ledger().current(Purpose::kOptimizer), std::int64_t{60} << 20);
  try {
    (void)stream->pinned_memory(std::size_t{8} << 20, Purpose::kOptimizer);
    ADD_FAILURE() << "more than there is";
  } catch (const OutOfMemory& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("out of memory of the host: 8.0 MiB more of pinned memory for optimizer "
                                   "were refused (60.0 MiB are held so; the host has "));
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
  }
  (void)stream->pinned_memory(std::size_t{4} << 20, Purpose::kOptimizer);  // goes on
}

INSTANTIATE_TEST_SUITE_P(, SmallMachine, testing::Bool(),
                         [](const auto& test) { return test.param ? "Guarded" : "Pooled"; });

}  // namespace
}  // namespace hone::device
