// Schedules are Transformers', step by step (tools/schedule_goldens.py).
#include "train/schedule.h"

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

namespace hone::train {
namespace {

TEST(Schedule, IsTransformersStepByStep) {
  std::ifstream in(HONE_TEST_DATA "/schedules.json");
  const auto cases = nlohmann::json::parse(in);
  ASSERT_GT(cases.size(), 50U);
  const std::map<std::string, ScheduleOptions::Type> types{{"constant", ScheduleOptions::Type::kConstant},
                                                           {"linear", ScheduleOptions::Type::kLinear},
                                                           {"cosine", ScheduleOptions::Type::kCosine},
                                                           {"wsd", ScheduleOptions::Type::kWsd}};
  for (const auto& c : cases) {
    const ScheduleOptions options{
        .type = types.at(c["type"]), .warmup = c["warmup"], .min_lr_ratio = c["min_lr_ratio"]};
    const auto& factors = c["factors"];
    for (std::size_t step = 0; step < factors.size(); ++step)
      EXPECT_NEAR(schedule_factor(options, static_cast<std::int64_t>(step),
                                  static_cast<std::int64_t>(factors.size())),
                  factors[step].get<double>(), 1e-12)
          << c["type"] << " warmup " << c["warmup"] << " floor " << c["min_lr_ratio"] << " of "
          << factors.size() << " steps, step " << step;
  }
}

TEST(Schedule, AWarmUpBelowOneIsAShareRoundedUp) {
  // Transformers 5: TrainingArguments.get_warmup_steps, ceil(steps * warmup_steps) where warmup_steps < 1.
  EXPECT_EQ(warmup_steps({.warmup = 0.03}, 1000), 30);
  EXPECT_EQ(warmup_steps({.warmup = 0.03}, 101), 4);
  EXPECT_EQ(warmup_steps({.warmup = 1}, 101), 1);
  EXPECT_EQ(warmup_steps({.warmup = 0}, 101), 0);
  const ScheduleOptions share{.type = ScheduleOptions::Type::kCosine, .warmup = 0.25};
  const ScheduleOptions steps{.type = ScheduleOptions::Type::kCosine, .warmup = 3};
  for (std::int64_t step = 0; step < 12; ++step)
    EXPECT_EQ(schedule_factor(share, step, 12), schedule_factor(steps, step, 12));
}

TEST(Schedule, LinearFallsToItsFloor) {
  const ScheduleOptions options{.type = ScheduleOptions::Type::kLinear, .warmup = 2, .min_lr_ratio = 0.1};
  EXPECT_DOUBLE_EQ(schedule_factor(options, 0, 10), 0);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 2, 10), 1);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 6, 10), 0.55);
  EXPECT_DOUBLE_EQ(schedule_factor(options, 10, 10), 0.1);
}

}  // namespace
}  // namespace hone::train
