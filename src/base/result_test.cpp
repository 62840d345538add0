#include "base/result.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <string>

namespace nacre {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Error("odd: ").append_number(static_cast<u64>(n));
  return n / 2;
}
Result<int> quarter(int n) {
  const int h = TRY(half(n));
  return half(h);
}

TEST(Result, carries_a_value_or_the_reason_there_is_none) {
  EXPECT_EQ(quarter(8).value(), 2);
  EXPECT_STREQ(quarter(6).error().message(), "odd: 3");
}

TEST(Result, moves_what_cannot_be_copied) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(5);
  const std::unique_ptr<int> taken = result.take();
  EXPECT_EQ(*taken, 5);
}

TEST(Error, cuts_text_that_does_not_fit) {
  Error error;
  for (int i = 0; i < 100; i++) error.append("0123456789");
  EXPECT_EQ(std::string(error.message()).size(), 495U);
}

TEST(Error, writes_numbers) {
  EXPECT_STREQ(Error("at ").append_number(0xfee00000, 16).message(), "at 0xfee00000");
  EXPECT_STREQ(Error("").append_number(0).message(), "0");
}

}  // namespace
}  // namespace nacre
