#include "base/bits.hpp"

#include <gtest/gtest.h>

#include "base/address.hpp"

namespace nacre {
namespace {

struct Sample : Bits<Sample, u32> {
  using Bits::Bits;
  static constexpr Field<u8, 7, 0> vector{};
  static constexpr Field<bool, 16, 16> masked{};
};

TEST(Bits, reads_and_replaces_a_field_alone) {
  const Sample sample(0x0001'00ffU);
  EXPECT_EQ(sample[Sample::vector], 0xff);
  EXPECT_TRUE(sample[Sample::masked]);
  EXPECT_EQ(sample.with(Sample::vector, u8{0x20}).raw, 0x0001'0020U);
  EXPECT_EQ(sample.with(Sample::masked, false).raw, 0x0000'00ffU);
}

TEST(Bits, helpers_handle_full_width) {
  EXPECT_EQ(extract(~u64{0}, 63, 0), ~u64{0});
  EXPECT_EQ(sign_extend(0x80, 8), 0xffff'ffff'ffff'ff80U);
  EXPECT_EQ(low_bytes_mask(4), 0xffff'ffffU);
  EXPECT_EQ(low_bytes_mask(8), ~u64{0});
}

TEST(Address, splits_into_page_and_offset) {
  const GuestPhysical address(0x12345);
  EXPECT_EQ(address.page().value(), 0x12000U);
  EXPECT_EQ(address.page_offset(), 0x345U);
  EXPECT_EQ((address + 0x1000).page_number(), 0x13U);
}

}  // namespace
}  // namespace nacre
