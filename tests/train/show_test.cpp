// What a run prints and draws.
#include <gmock/gmock.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/content_hash.h"
#include "base/error.h"
#include "train/step_record.h"
#include "train/svg.h"

namespace hone::train {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(StepLine, HasWhatTheDesignSays) {
  StepRecord line{.step = 7, .steps = 450, .loss = 1.18234, .average_loss = 1.2011};
  line.supervised = 1;
  line.learning_rate = 9.1e-5;
  line.grad_norm = 0.84;
  line.tokens_per_second = 41234;
  line.speed_of_light = 0.62;
  line.memory_mib = 93.1 * 1024;
  line.seconds_left = 525;
  EXPECT_EQ(
      format_step_line(line),
      "step   7/450  loss 1.1823 (avg 1.2011)  lr 9.1e-05  |g| 0.84  41.2k tok/s  sol 62%  mem 93.1 GiB  "
      "eta 8m45s");
}

TEST(StepLine, OfAStepWithoutATargetSaysSo) {
  StepRecord line;
  EXPECT_THAT(format_step_line(line), HasSubstr("nothing to learn"));
  line.supervised = 1;
  EXPECT_THAT(format_step_line(line), Not(HasSubstr("nothing to learn")));
}

TEST(StepLine, ShowsSmallGradientsAsNumbers) {
  StepRecord line{.step = 1, .steps = 1, .grad_norm = 0.00312};
  EXPECT_THAT(format_step_line(line), HasSubstr("|g| 0.0031"));
}

/// Every figure differs from every other and from what a record starts with.
StepRecord full_record() {
  StepRecord record{.time = "2026-11-28T09:00:00Z", .skipped = true, .has_experts = true};
  double value = 1.1;
  for (const auto& figure : step_figures()) {
    std::visit(
        [&](auto field) {
          using Field = std::remove_reference_t<decltype(record.*field)>;
          if constexpr (!std::is_same_v<Field, bool>) record.*field = static_cast<Field>(value *= 1.7);
        },
        figure.field);
  }
  record.evaluations = {{.name = "", .summary = {.loss = 2.5, .perplexity = 12.2}, .samples = {}},
                        {.name = "held_loss", .summary = {.loss = 3.5, .perplexity = 33.1}, .samples = {}}};
  return record;
}

TEST(StepRecord, ComesBackFromItsRow) {
  const StepRecord record = full_record();
  const auto row = to_row(record);
  EXPECT_EQ(row.size(), step_figures().size() + 1 + 4);  // the time, and two figures of two evaluations
  const StepRecord back = from_row(nlohmann::ordered_json::parse(row.dump()));
  EXPECT_EQ(to_row(back).dump(), row.dump());
  EXPECT_EQ(back.learning_rate, record.learning_rate);
  EXPECT_EQ(back.dead_experts, record.dead_experts);
  ASSERT_EQ(back.evaluations.size(), 2U);
  EXPECT_EQ(back.evaluations[1].name, "held_loss");
  EXPECT_EQ(back.evaluations[1].summary.perplexity, 33.1);
}

TEST(StepRecord, BeforeTheFirstStepHasNoFiguresOfAStep) {
  StepRecord record = full_record();
  record.step = 0;
  const auto row = to_row(record);
  EXPECT_FALSE(row.contains("loss"));
  EXPECT_FALSE(row.contains("dead_experts"));
  EXPECT_TRUE(row.contains("eval_held_loss_loss"));
}

TEST(StepRecord, WhatIsNotFiniteIsNullAndComesBack) {
  StepRecord record = full_record();
  record.loss = NAN;
  const auto row = nlohmann::ordered_json::parse(to_row(record).dump());
  EXPECT_TRUE(row.at("loss").is_null());
  EXPECT_TRUE(std::isnan(from_row(row).loss));
}

TEST(Chart, WithoutAnyPointIsAnEmptyFrame) {
  EXPECT_THAT(draw_chart("Loss", "step", {{.name = "a", .css_class = "a", .points = {}}}),
              HasSubstr("</svg>"));
}

TEST(Chart, OfOnePointShowsIt) {
  EXPECT_THAT(draw_chart("Loss", "step", {{.name = "a", .css_class = "a", .points = {{1, 2}}}}),
              HasSubstr("<circle"));
}

TEST(Chart, LeavesOutWhatIsNotFinite) {
  const auto svg =
      draw_chart("Loss", "step", {{.name = "a", .css_class = "a", .points = {{1, 2}, {2, NAN}, {3, 4}}}});
  EXPECT_THAT(svg, Not(HasSubstr("nan")));
}

TEST(Chart, OfAWideRangeIsLogarithmic) {
  const Curve curve{.name = "a", .css_class = "a", .points = {{1, 10}, {2, 1}, {3, 0.001}}};
  EXPECT_THAT(draw_chart("Loss", "step", {curve}, Scale::kLogIfWide), HasSubstr(">0.01</text>"));
  const Curve zero{.name = "a", .css_class = "a", .points = {{1, 10}, {2, 0}}};
  EXPECT_THAT(draw_chart("Loss", "step", {zero}, Scale::kLogIfWide), HasSubstr(">4</text>"));
}

TEST(ContentHash, ChangesWithEveryBitAndLength) {
  std::vector<std::byte> bytes(100);
  const auto hash = content_hash(bytes);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = std::byte{1};
    EXPECT_NE(content_hash(bytes), hash) << i;
    bytes[i] = std::byte{0};
  }
  EXPECT_NE(content_hash(std::span(bytes).first(99)), hash);
  EXPECT_NE(content_hash(bytes, 1), hash);
}

}  // namespace
}  // namespace hone::train
