// The names of devices.
#include "device/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/error.h"
#include "device/cuda_device.h"
#include "device/memory_of.h"

namespace hone::device {
namespace {

TEST(DeviceNames, AreReadAsTheyAreWritten) {
  for (const Device device :
       {Device{}, Device{DeviceType::kCuda, 0}, Device{DeviceType::kCuda, 12}, Device{DeviceType::kMeta, 0}})
    EXPECT_EQ(parse_device(name_of(device)), device);
  EXPECT_EQ(parse_device("cuda"), (Device{DeviceType::kCuda, 0}));
}

TEST(DeviceNames, OthersAreRefused) {
  for (const char* name :
       {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:99999999999", "cuda0"})
    EXPECT_THROW(parse_device(name), Error) << name;
}

TEST(DeviceNames, TheEnvironmentChoosesTheDefault) {
  const char* before = std::getenv("HONE_DEVICE");
  const std::string kept = before == nullptr ? "" : before;
  ::unsetenv("HONE_DEVICE");
  EXPECT_EQ(default_device(), Device{});
  ::setenv("HONE_DEVICE", "cuda:3", 1);
  EXPECT_EQ(default_device(), (Device{DeviceType::kCuda, 3}));
  ::setenv("HONE_DEVICE", "npu", 1);
  try {
    (void)default_device();
    FAIL();
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), testing::StartsWith("HONE_DEVICE: unknown device 'npu'"));
  }
  ::setenv("HONE_DEVICE", kept.c_str(), 1);
}

TEST(DeviceNames, MetaStandsForADevice) {
  const Device card{DeviceType::kCuda, 1};
  EXPECT_EQ(meta_of(card), (Device{DeviceType::kMeta, 0, DeviceType::kCuda}));
  EXPECT_EQ(meta_of(meta_of(card)), meta_of(card));
  EXPECT_EQ(name_of(meta_of(card)), "meta");
}

TEST(DeviceMemoryOf, TheHostHasSome) {
  const DeviceMemory memory = memory_of({});
  EXPECT_GT(memory.total, std::int64_t{64} << 20);
  EXPECT_GT(memory.available, 0);
  EXPECT_EQ(memory_of(meta_of({})).total, 0);
}

TEST(CudaReport, SaysWhyThereIsNone) {
  const CudaReport report = cuda_report();
  if (report.cards.empty())
    EXPECT_NE(report.why_none, "");
  else
    EXPECT_EQ(report.why_none, "");
  EXPECT_THROW((void)make_stream({DeviceType::kCuda, 99}), Error);
}

}  // namespace
}  // namespace hone::device
