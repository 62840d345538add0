#include "virtio/blk/device.hpp"

#include <gtest/gtest.h>

#include "virtio/blk/blk_sequence.hpp"

namespace nacre::virtio::blk {
namespace {

using testing::Driver;
using testing::Guest;

struct BlkTest : ::testing::TestWithParam<u64> {
  Guest guest;
  MemoryDisk disk;
  std::unique_ptr<Blk> blk;
  std::unique_ptr<Driver> driver;

  void make(BlkOptions options = {}) {
    options.bytes = disk.bytes.size();
    blk = std::make_unique<Blk>(guest.space, guest.ports(), disk, options);
    disk.device = blk.get();
    driver = std::make_unique<Driver>(guest, *blk);
    const u64 format = GetParam();
    ASSERT_TRUE(driver->bring_up(blk->features() & (format | ~Feature::packed), 32));
  }
  u64 config(u64 offset, unsigned size) { return driver->read(BarLayout::device + offset, size); }

  struct Answer {
    u8 status = 0xee;
    u32 written = 0;
    bool came = false;
  };
  u64 header(u32 type, u64 sector) {
    const RequestHeader h = {.type = type, .sector = sector};
    return driver->put(&h, sizeof h);
  }
  Answer answer(u64 status_at) {
    const auto used = driver->used(0);
    if (used.size() != 1) return {};
    return {guest.load<u8>(status_at), used[0].written, true};
  }
  // Header, data out, data in, status: each in its own buffer.
  Answer ask(u32 type, u64 sector, const std::vector<Driver::Buffer>& out, std::vector<Driver::Buffer> in) {
    const u64 status = driver->allocate(1);
    guest.store<u8>(status, 0xee);
    std::vector<Driver::Buffer> all_out = {{header(type, sector), 16}};
    all_out.insert(all_out.end(), out.begin(), out.end());
    in.push_back({status, 1});
    driver->add(0, all_out, in);
    driver->kick(0);
    return answer(status);
  }
};

TEST_P(BlkTest, ConfigurationSaysWhatTheDiskIs) {
  make();
  EXPECT_EQ(config(0, 8), 128u);
  EXPECT_EQ(config(0, 4), 128u);
  EXPECT_EQ(config(12, 4), 126u);  // seg_max
  EXPECT_EQ(config(20, 4), 512u);
  EXPECT_EQ(config(24, 1), 3u);
  EXPECT_EQ(config(34, 2), 1u);
  EXPECT_EQ(config(56, 1), 1u);
  EXPECT_EQ(config(60, 8), 0u);
  EXPECT_EQ(config(0xff8, 8), 0u);
}

TEST_P(BlkTest, WritesAndReads) {
  make();
  for (const bool at_once : {true, false}) {
    disk.answers_at_once = at_once;
    const u64 from = driver->allocate(1024), to = driver->allocate(1024);
    for (u32 i = 0; i < 1024; ++i) guest.store<u8>(from + i, static_cast<u8>(i * 7 + at_once));
    Answer wrote = ask(1, 5, {{from, 100}, {from + 100, 924}}, {});
    if (!at_once) {
      EXPECT_TRUE(wrote.came);  // MemoryDisk answers when it is dispatched, in the same run
    }
    EXPECT_EQ(wrote.status, 0);
    EXPECT_EQ(wrote.written, 1u);
    EXPECT_EQ(std::memcmp(disk.bytes.data() + 5 * 512, guest.at(from), 1024), 0);
    const Answer read = ask(0, 5, {}, {{to, 1000}, {to + 1000, 24}});
    EXPECT_EQ(read.status, 0);
    EXPECT_EQ(read.written, 1025u);
    EXPECT_EQ(std::memcmp(guest.at(to), guest.at(from), 1024), 0);
  }
}

TEST_P(BlkTest, AnyFramingWillDo) {
  make();
  for (u32 i = 0; i < 512; ++i) disk.bytes[i] = static_cast<u8>(i);
  const u64 head = header(0, 0);
  const u64 in = driver->allocate(513);
  // The header in two buffers, data and status in one.
  driver->add(0, {{head, 5}, {head + 5, 11}}, {{in, 513}});
  driver->kick(0);
  EXPECT_EQ(driver->used(0).size(), 1u);
  EXPECT_EQ(guest.load<u8>(in + 511), 0xff);
  EXPECT_EQ(guest.load<u8>(in + 512), 0);
}

TEST_P(BlkTest, OutsideOfTheDiskIsAnError) {
  make();
  const u64 at = driver->allocate(1024);
  EXPECT_EQ(ask(0, 127, {}, {{at, 512}}).status, 0);
  EXPECT_EQ(ask(0, 127, {}, {{at, 1024}}).status, 1);
  EXPECT_EQ(ask(0, 128, {}, {{at, 512}}).status, 1);
  EXPECT_EQ(ask(0, ~u64{0}, {}, {{at, 512}}).status, 1);
  EXPECT_EQ(ask(1, u64{1} << 55, {{at, 512}}, {}).status, 1);
  EXPECT_EQ(ask(0, 0, {}, {{at, 511}}).status, 1);  // not whole sectors
  EXPECT_TRUE(guest.complaints.empty());
}

TEST_P(BlkTest, FlushIdDiscardAndZeroes) {
  BlkOptions options;
  std::memcpy(options.serial, "number one", 10);
  make(options);
  EXPECT_EQ(ask(4, 0, {}, {}).status, 0);
  const u64 id = driver->allocate(20);
  const Answer identified = ask(8, 0, {}, {{id, 20}});
  EXPECT_EQ(identified.status, 0);
  EXPECT_EQ(identified.written, 21u);
  EXPECT_STREQ(reinterpret_cast<char*>(guest.at(id)), "number one");
  std::fill(disk.bytes.begin(), disk.bytes.end(), u8{9});
  const RangeSegment range = {.sector = 2, .count = 3, .flags = 1};
  const u64 at = driver->put(&range, sizeof range);
  EXPECT_EQ(ask(11, 0, {{at, 16}}, {}).status, 2);  // discard knows no flags
  EXPECT_EQ(ask(13, 0, {{at, 16}}, {}).status, 0);
  EXPECT_EQ(disk.bytes[2 * 512 - 1], 9);
  EXPECT_EQ(disk.bytes[2 * 512], 0);
  EXPECT_EQ(disk.bytes[5 * 512 - 1], 0);
  EXPECT_EQ(disk.bytes[5 * 512], 9);
  guest.store<u32>(at + 12, 0);
  EXPECT_EQ(ask(11, 0, {{at, 16}}, {}).status, 0);
  guest.store<u32>(at + 8, 1000);
  EXPECT_EQ(ask(11, 0, {{at, 16}}, {}).status, 1);
  EXPECT_EQ(ask(77, 0, {}, {}).status, 2);  // no such request
  using K = DiskRequest::Kind;
  EXPECT_EQ(disk.log, (std::vector<K>{K::Flush, K::WriteZeroes, K::Discard}));
}

TEST_P(BlkTest, AReadOnlyDiskIsNotWritten) {
  make({.read_only = true});
  EXPECT_NE(blk->features() & BlkFeature::read_only, 0u);
  EXPECT_EQ(blk->features() & (BlkFeature::discard | BlkFeature::write_zeroes), 0u);
  const u64 at = driver->allocate(512);
  EXPECT_EQ(ask(1, 0, {{at, 512}}, {}).status, 1);
  EXPECT_EQ(ask(11, 0, {{at, 16}}, {}).status, 1);
  EXPECT_EQ(ask(0, 0, {}, {{at, 512}}).status, 0);
  EXPECT_EQ(disk.log.size(), 1u);
}

TEST_P(BlkTest, AFailingDiskIsAnIoError) {
  make();
  disk.fails = true;
  const u64 at = driver->allocate(512);
  EXPECT_EQ(ask(0, 0, {}, {{at, 512}}).status, 1);
  EXPECT_EQ(ask(4, 0, {}, {}).status, 1);
}

TEST_P(BlkTest, WithoutHeaderOrStatusTheDeviceStops) {
  make();
  driver->add(0, {{header(0, 0), 15}}, {{0x1000, 1}});
  driver->kick(0);
  EXPECT_NE(driver->status() & DeviceStatus::needs_reset, 0);
  make();
  driver->add(0, {{header(4, 0), 16}}, {});
  driver->kick(0);
  EXPECT_NE(driver->status() & DeviceStatus::needs_reset, 0);
}

TEST_P(BlkTest, MoreRequestsThanSlotsAllComplete) {
  disk.bytes.resize(1 * kMiB);
  make({.queues = 4});
  disk.answers_at_once = false;
  disk.holds = true;
  unsigned added = 0, back = 0;
  const u64 status = driver->allocate(1), at = driver->allocate(512);
  const u64 head = header(0, 3);
  for (unsigned queue = 0; queue < 4; ++queue) {
    while (driver->room(queue) >= 3) {
      driver->add(queue, {{head, 16}}, {{at, 512}, {status, 1}}, true);
      ++added;
    }
    driver->kick(queue);
  }
  EXPECT_GT(added, Blk::kSlots);
  EXPECT_EQ(blk->under_way(), Blk::kSlots);
  disk.holds = false;
  for (int i = 0; i < 8; ++i) blk->run();
  for (unsigned queue = 0; queue < 4; ++queue) back += static_cast<unsigned>(driver->used(queue).size());
  EXPECT_EQ(back, added);
  EXPECT_EQ(blk->under_way(), 0u);
}

TEST_P(BlkTest, AResetWaitsForWhatIsUnderWayAndForgetsIt) {
  make();
  disk.answers_at_once = false;
  disk.holds = true;
  const u64 at = driver->allocate(512);
  EXPECT_FALSE(ask(0, 0, {}, {{at, 512}}).came);
  driver->set_status(0);
  blk->run();
  EXPECT_NE(driver->status(), 0);  // the disk may still write to memory
  disk.holds = false;
  blk->run();
  EXPECT_EQ(driver->status(), 0);
  EXPECT_EQ(driver->used(0).size(), 0u);
  EXPECT_EQ(driver->interrupts(0), 0u);
}

TEST_P(BlkTest, AResizeIsAConfigurationChange) {
  make();
  const u64 before = driver->read(CommonOffset::generation, 1);
  disk.bytes.resize(128 * kKiB);
  blk->resized(disk.bytes.size());
  driver->transport().config_interrupt();
  EXPECT_NE(driver->read(CommonOffset::generation, 1), before);
  EXPECT_EQ(config(0, 8), 256u);
  EXPECT_EQ(driver->config_interrupts(), 1u);
  const u64 at = driver->allocate(512);
  EXPECT_EQ(ask(0, 255, {}, {{at, 512}}).status, 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, BlkTest, ::testing::Values(0, Feature::packed),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Blk, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(blk_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::blk
