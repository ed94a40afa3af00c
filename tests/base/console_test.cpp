// How numbers are written for people.
#include "base/console.h"

#include <gtest/gtest.h>

#include <cmath>

namespace hone {
namespace {

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

}  // namespace
}  // namespace hone
