// What is said on machines that have no card, or not one that will do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
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

}  // namespace
}  // namespace hone::device
