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
                                         std::pair{"turing", "has compute capability 7.5; hone needs 8.0"}),
                         [](const auto& test) {
                           std::string name = test.param.first;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace hone::device
