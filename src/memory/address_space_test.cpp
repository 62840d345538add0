#include "memory/address_space.hpp"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace nacre::memory {
namespace {

using Access = std::pair<u64, unsigned>;

// Answers every byte with the low byte of its offset, and remembers what it was asked.
struct Window : MmioHandler {
  std::vector<Access> reads, writes;
  std::vector<u64> values;
  u64 read(u64 offset, unsigned size) override {
    reads.emplace_back(offset, size);
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) value |= ((offset + i) & 0xff) << (8 * i);
    return value;
  }
  void write(u64 offset, unsigned size, u64 value) override {
    writes.emplace_back(offset, size);
    values.push_back(value);
  }
};

struct AddressSpaceTest : ::testing::Test {
  // RAM 0..2 pages, RAM 2..3 pages in another mapping, a hole, a window at 5, ROM at 6, RAM to the end.
  std::vector<u8> low = std::vector<u8>(2 * kPageSize), high = std::vector<u8>(kPageSize),
                  bios = std::vector<u8>(kPageSize, 0xb1), top = std::vector<u8>(kPageSize);
  std::vector<u8> low_flags = std::vector<u8>(2), high_flags = std::vector<u8>(1);
  Window window;
  AddressSpace space;

  void SetUp() override {
    ASSERT_TRUE(space.add_rom(GuestPhysical(6 * kPageSize), kPageSize, bios.data()).ok());
    ASSERT_TRUE(space.add_ram(GuestPhysical(2 * kPageSize), kPageSize, high.data(), high_flags.data()).ok());
    ASSERT_TRUE(space.add_mmio(GuestPhysical(5 * kPageSize), kPageSize, window).ok());
    ASSERT_TRUE(space.add_ram(GuestPhysical(0), 2 * kPageSize, low.data(), low_flags.data()).ok());
    ASSERT_TRUE(space.add_ram(GuestPhysical(~u64{0} - kPageSize + 1), kPageSize, top.data(), nullptr).ok());
  }
};

TEST_F(AddressSpaceTest, finds_the_region_that_holds_an_address) {
  EXPECT_EQ(space.find(GuestPhysical(0))->host, low.data());
  EXPECT_EQ(space.find(GuestPhysical(2 * kPageSize - 1))->host, low.data());
  EXPECT_EQ(space.find(GuestPhysical(2 * kPageSize))->host, high.data());
  EXPECT_EQ(space.find(GuestPhysical(3 * kPageSize)), nullptr);
  EXPECT_EQ(space.find(GuestPhysical(5 * kPageSize + 8))->kind, RegionKind::Mmio);
  EXPECT_EQ(space.find(GuestPhysical(7 * kPageSize)), nullptr);
  EXPECT_EQ(space.find(GuestPhysical(~u64{0}))->host, top.data());
  for (usize i = 1; i < space.region_count(); ++i) EXPECT_LT(space.region(i - 1).base, space.region(i).base);
}

TEST_F(AddressSpaceTest, gives_host_addresses_of_ram_and_of_rom_for_reading_only) {
  EXPECT_EQ(space.host(GuestPhysical(kPageSize + 3), true), low.data() + kPageSize + 3);
  EXPECT_EQ(space.host(GuestPhysical(6 * kPageSize + 3), false), bios.data() + 3);
  EXPECT_EQ(space.host(GuestPhysical(6 * kPageSize + 3), true), nullptr);
  EXPECT_EQ(space.host(GuestPhysical(5 * kPageSize), false), nullptr);
  EXPECT_EQ(space.host(GuestPhysical(3 * kPageSize), false), nullptr);
  EXPECT_EQ(space.page_flags(GuestPhysical(kPageSize + 9)), low_flags.data() + 1);
  EXPECT_EQ(space.page_flags(GuestPhysical(6 * kPageSize)), nullptr);
  EXPECT_EQ(space.page_flags(GuestPhysical(3 * kPageSize)), nullptr);
}

TEST_F(AddressSpaceTest, copies_across_regions_and_marks_pages_dirty) {
  low_flags[1] = PageFlag::code;
  ASSERT_TRUE(space.write(GuestPhysical(2 * kPageSize - 2), "abcd", 4));
  EXPECT_EQ(low[2 * kPageSize - 2], 'a');
  EXPECT_EQ(high[1], 'd');
  EXPECT_EQ(low_flags[0], 0);
  EXPECT_EQ(low_flags[1], PageFlag::code | PageFlag::dirty);
  EXPECT_EQ(high_flags[0], PageFlag::dirty);
  char back[4] = {};
  ASSERT_TRUE(space.read(GuestPhysical(2 * kPageSize - 2), back, 4));
  EXPECT_EQ(std::string(back, 4), "abcd");
}

TEST_F(AddressSpaceTest, refuses_to_copy_where_there_is_no_ram) {
  u8 bytes[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_FALSE(space.write(GuestPhysical(3 * kPageSize - 4), bytes, 8));
  EXPECT_EQ(high[kPageSize - 1], 4);  // up to the fault
  EXPECT_FALSE(space.read(GuestPhysical(3 * kPageSize - 4), bytes, 8));
  EXPECT_FALSE(space.write(GuestPhysical(6 * kPageSize), bytes, 1));
  EXPECT_TRUE(space.read(GuestPhysical(6 * kPageSize), bytes, 1));
  EXPECT_EQ(bytes[0], 0xb1);
  EXPECT_FALSE(space.read(GuestPhysical(5 * kPageSize), bytes, 1));
  EXPECT_TRUE(space.read(GuestPhysical(3 * kPageSize), bytes, 0));
}

TEST_F(AddressSpaceTest, a_copy_that_runs_off_the_top_wraps_to_address_zero_as_the_sum_does) {
  u8 bytes[2] = {0x11, 0x22};
  EXPECT_TRUE(space.write(GuestPhysical(~u64{0}), bytes, 2));
  EXPECT_EQ(top[kPageSize - 1], 0x11);
  EXPECT_EQ(low[0], 0x22);
}

TEST_F(AddressSpaceTest, dispatches_to_windows_whole) {
  EXPECT_EQ(space.mmio_read(GuestPhysical(5 * kPageSize + 0x10), 4), 0x13121110u);
  EXPECT_EQ(space.mmio_read(GuestPhysical(5 * kPageSize + 0x10), 8), 0x1716151413121110u);
  space.mmio_write(GuestPhysical(5 * kPageSize + 0x20), 2, 0xaaaabbbb);
  EXPECT_EQ(window.reads, (std::vector<Access>{{0x10, 4}, {0x10, 8}}));
  EXPECT_EQ(window.writes, (std::vector<Access>{{0x20, 2}}));
  EXPECT_EQ(window.values, (std::vector<u64>{0xbbbb}));
}

TEST_F(AddressSpaceTest, splits_an_access_that_runs_over_a_windows_end) {
  EXPECT_EQ(space.mmio_read(GuestPhysical(6 * kPageSize - 2), 4), 0xb1b1fffeu);
  EXPECT_EQ(window.reads, (std::vector<Access>{{0xffe, 1}, {0xfff, 1}}));
  space.mmio_write(GuestPhysical(5 * kPageSize - 2), 4, 0x44332211);
  EXPECT_EQ(window.writes, (std::vector<Access>{{0, 1}, {1, 1}}));
  EXPECT_EQ(window.values, (std::vector<u64>{0x33, 0x44}));
}

TEST_F(AddressSpaceTest, nothing_there_reads_as_all_ones) {
  EXPECT_EQ(space.mmio_read(GuestPhysical(3 * kPageSize), 1), 0xffu);
  EXPECT_EQ(space.mmio_read(GuestPhysical(3 * kPageSize), 8), ~u64{0});
  space.mmio_write(GuestPhysical(3 * kPageSize), 8, 1);
  EXPECT_TRUE(window.writes.empty());
}

TEST_F(AddressSpaceTest, rejects_bad_regions_and_names_both_that_overlap) {
  EXPECT_FALSE(space.add_mmio(GuestPhysical(0x8800), kPageSize, window).ok());
  EXPECT_FALSE(space.add_mmio(GuestPhysical(0x8000), 0, window).ok());
  EXPECT_FALSE(space.add_mmio(GuestPhysical(0x8000), ~u64{0} - kPageSize + 1, window).ok());
  const Status over = space.add_mmio(GuestPhysical(0x1000), 0x1000, window);
  ASSERT_FALSE(over.ok());
  EXPECT_STREQ(
      over.error().message(),
      "memory map: MMIO at 0x1000 of 0x1000 bytes overlaps RAM at 0x0 of 0x2000 bytes; move one of them");
  EXPECT_FALSE(space.add_mmio(GuestPhysical(0x4000), 0x2000, window).ok());
  EXPECT_FALSE(space.add_mmio(GuestPhysical(0x4000), 0x10000, window).ok());
}

TEST(AddressSpace, is_full_after_its_last_region) {
  AddressSpace space;
  std::vector<u8> page(kPageSize);
  for (usize i = 0; i < AddressSpace::kMaxRegions; ++i) {
    ASSERT_TRUE(space.add_rom(GuestPhysical(i * kPageSize), kPageSize, page.data()).ok());
  }
  EXPECT_FALSE(space.add_rom(GuestPhysical(1 * kGiB), kPageSize, page.data()).ok());
}

}  // namespace
}  // namespace nacre::memory
