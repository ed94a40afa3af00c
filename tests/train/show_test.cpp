// What a run prints and draws.
#include <gmock/gmock.h>

#include <cmath>
#include <ctime>

#include "base/content_hash.h"
#include "base/error.h"
#include "train/console.h"
#include "train/svg.h"

namespace hone::train {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(Numbers, AreReadable) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(-1234567), "-1,234,567");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(short_count(999), "999");
  EXPECT_EQ(short_count(41234), "41.2k");
  EXPECT_EQ(short_count(3.3e9), "3.3B");
  EXPECT_EQ(short_count(999'999), "1.0M");
  EXPECT_EQ(short_count(1e15), "1000T");
  EXPECT_EQ(duration(59.4), "59s");
  EXPECT_EQ(duration(59.6), "1m00s");
  EXPECT_EQ(duration(525), "8m45s");
  EXPECT_EQ(duration(7380), "2h03m");
  EXPECT_EQ(duration(3.2 * 86400), "3d04h");
  EXPECT_EQ(duration(-1), "0s");
}

TEST(Numbers, ThatAreNoneDoNotCrash) {
  EXPECT_EQ(duration(std::nan("")), "?");
  EXPECT_EQ(duration(INFINITY), "?");
  EXPECT_EQ(duration(1e30), "?");
  EXPECT_EQ(short_count(NAN), "?");
  EXPECT_EQ(short_count(INFINITY), "?");
}

TEST(StepLine, HasWhatTheDesignSays) {
  StepLine line{.step = 7, .steps = 450, .loss = 1.18234, .average_loss = 1.2011};
  line.learning_rate = 9.1e-5;
  line.grad_norm = 0.84;
  line.tokens_per_second = 41234;
  line.speed_of_light = 0.62;
  line.memory_bytes = 93.1 * 0x1p30;
  line.seconds_left = 525;
  EXPECT_EQ(
      format_step_line(line),
      "step   7/450  loss 1.1823 (avg 1.2011)  lr 9.1e-05  |g| 0.84  41.2k tok/s  sol 62%  mem 93.1 GiB  "
      "eta 8m45s");
}

TEST(StepLine, ShowsSmallGradientsAsNumbers) {
  StepLine line{.step = 1, .steps = 1, .grad_norm = 0.00312};
  EXPECT_THAT(format_step_line(line), HasSubstr("|g| 0.0031"));
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
