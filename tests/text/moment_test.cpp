#include "text/moment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <ctime>
#include <string>

#include "base/error.h"

namespace hone::text {
namespace {

TEST(Moment, IsKeptAsTextWithEverythingThatStrftimeReads) {
  for (const std::string text :
       {"2026-11-27 22:31:05", "2024-02-29 00:00:00", "1999-12-31 23:59:59", "2025-01-01 12:00:00"}) {
    std::tm moment = parse_moment(text, "test");
    EXPECT_EQ(moment_text(moment), text);
    std::tm normalized = moment;
    timegm(&normalized);
    EXPECT_EQ(moment.tm_wday, normalized.tm_wday) << text;
    EXPECT_EQ(moment.tm_yday, normalized.tm_yday) << text;
  }
  const std::tm now = local_time();
  const std::tm again = parse_moment(moment_text(now), "test");
  EXPECT_EQ(now.tm_wday, again.tm_wday);
  EXPECT_EQ(now.tm_yday, again.tm_yday);
}

TEST(Moment, IsRefusedWhereItIsNone) {
  for (const char* text :
       {"", "2026-11-27", "2026-13-01 00:00:00", "2026-02-29 00:00:00", "2026-11-27T22:31:05",
        "2026-11-27 24:00:00", "2026-11-27 22:31:05Z", "x026-11-27 22:31:05"}) {
    try {
      parse_moment(text, "state.json: now");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUser);
      EXPECT_THAT(error.what(), testing::StartsWith("state.json: now: '"));
    }
  }
}

}  // namespace
}  // namespace hone::text
