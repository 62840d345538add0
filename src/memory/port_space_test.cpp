#include "memory/port_space.hpp"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace nacre::memory {
namespace {

using Access = std::pair<u16, unsigned>;

struct Ports : PortHandler {
  std::vector<Access> reads, writes;
  std::vector<u32> values;
  u32 read(u16 offset, unsigned size) override {
    reads.emplace_back(offset, size);
    return 0xd0d0d0d0u + offset;
  }
  void write(u16 offset, unsigned size, u32 value) override {
    writes.emplace_back(offset, size);
    values.push_back(value);
  }
};

struct PortSpaceTest : ::testing::Test {
  Ports narrow, wide;
  PortSpace space;
  void SetUp() override {
    ASSERT_TRUE(space.claim(0x3f8, 8, narrow).ok());
    ASSERT_TRUE(space.claim(0xcf8, 8, wide, 4).ok());
    ASSERT_TRUE(space.claim(0xffff, 1, wide, 4).ok());
  }
};

TEST_F(PortSpaceTest, unclaimed_ports_read_as_all_ones_of_the_access) {
  EXPECT_EQ(space.read(0x80, 1), 0xffu);
  EXPECT_EQ(space.read(0x80, 2), 0xffffu);
  EXPECT_EQ(space.read(0x400, 4), 0xffffffffu);
  space.write(0x80, 4, 1);
  EXPECT_TRUE(narrow.writes.empty() && wide.writes.empty());
}

TEST_F(PortSpaceTest, accesses_reach_a_wide_device_whole) {
  EXPECT_EQ(space.read(0xcfc, 4), 0xd0d0d0d4u);
  EXPECT_EQ(space.read(0xcfe, 2), 0xd0d6u);
  space.write(0xcf8, 4, 0x80000000);
  EXPECT_EQ(wide.reads, (std::vector<Access>{{4, 4}, {6, 2}}));
  EXPECT_EQ(wide.writes, (std::vector<Access>{{0, 4}}));
  EXPECT_EQ(wide.values, (std::vector<u32>{0x80000000}));
}

TEST_F(PortSpaceTest, accesses_are_split_for_a_narrow_device_lowest_port_first) {
  EXPECT_EQ(space.read(0x3f8, 2), 0xd1d0u);
  space.write(0x3fc, 4, 0x04030201);
  EXPECT_EQ(narrow.writes, (std::vector<Access>{{4, 1}, {5, 1}, {6, 1}, {7, 1}}));
  EXPECT_EQ(narrow.values, (std::vector<u32>{1, 2, 3, 4}));
}

TEST_F(PortSpaceTest, an_access_over_a_ranges_end_keeps_to_it) {
  EXPECT_EQ(space.read(0x3ff, 2), 0xffd7u);
  EXPECT_EQ(space.read(0xcf6, 4), 0xd0d0ffffu);
  EXPECT_EQ(space.read(0xcfd, 4), 0xffd7d0d5u);
  EXPECT_EQ(wide.reads, (std::vector<Access>{{0, 2}, {5, 2}, {7, 1}}));
  EXPECT_EQ(space.read(0xffff, 4), 0xffffffd0u);
}

TEST_F(PortSpaceTest, rejects_ranges_that_overlap_or_leave_the_port_space) {
  const Status status = space.claim(0x3f0, 9, narrow);
  ASSERT_FALSE(status.ok());
  EXPECT_STREQ(status.error().message(),
               "port map: ports 0x3f0 to 0x3f8 overlap ports 0x3f8 to 0x3ff; move one of them");
  EXPECT_FALSE(space.claim(0x3ff, 1, narrow).ok());
  EXPECT_FALSE(space.claim(0xfff0, 0x11, narrow).ok());
  EXPECT_FALSE(space.claim(0x10, 0, narrow).ok());
  EXPECT_TRUE(space.claim(0x3f0, 8, narrow).ok());
}

}  // namespace
}  // namespace nacre::memory
