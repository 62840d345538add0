#include "virtio/vsock/device.hpp"

#include <gtest/gtest.h>

#include "virtio/vsock/vsock_sequence.hpp"

namespace nacre::virtio::vsock {
namespace {

using testing::Driver;
using testing::Guest;

struct VsockTest : ::testing::TestWithParam<u64> {
  Guest guest;
  ListSockets sockets;
  Vsock vsock{guest.space, guest.ports(), sockets, 3};
  Driver driver{guest, vsock};

  void SetUp() override { ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam(), 16)); }
  static PacketHeader to_host(Operation operation, u32 bytes = 0) {
    return {.source_cid = 3,
            .target_cid = 2,
            .source_port = 1000,
            .target_port = 52,
            .bytes = bytes,
            .type = 1,
            .operation = static_cast<u16>(operation)};
  }
  void send(const PacketHeader& header, const std::string& payload = "") {
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += payload;
    const u64 at = driver.put(bytes.data(), bytes.size());
    driver.add(1, {{at, 30}, {at + 30, static_cast<u32>(bytes.size() - 30)}}, {});
    driver.kick(1);
  }
  u64 offer(u32 bytes) {
    const u64 at = driver.allocate(bytes);
    driver.add(0, {}, {{at, bytes}});
    return at;
  }
};

TEST_P(VsockTest, TellsTheGuestItsNumber) {
  EXPECT_EQ(driver.read(BarLayout::device, 8), 3u);
}

TEST_P(VsockTest, ConnectionsEndWithTheDriver) {
  const unsigned before = sockets.resets;
  driver.reset();
  vsock.run();
  EXPECT_EQ(sockets.resets, before + 1);
}

TEST_P(VsockTest, CarriesPacketsToTheHost) {
  send(to_host(Operation::Request));
  send(to_host(Operation::ReadWrite, 5), "hello");
  ASSERT_EQ(sockets.sent.size(), 2u);
  EXPECT_EQ(sockets.sent[0].first.target_port, 52u);
  EXPECT_EQ(sockets.sent[1].second, "hello");
  EXPECT_EQ(driver.used(1).size(), 2u);
}

TEST_P(VsockTest, CarriesPacketsToTheGuestAndCutsThemToItsBuffers) {
  sockets.waiting.emplace_back(
      PacketHeader{.source_port = 52, .target_port = 1000, .type = 1, .operation = 5}, "hello guest");
  const u64 first = offer(44 + 6), second = offer(100);
  driver.kick(0);
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 2u);
  EXPECT_EQ(used[0].written, 50u);
  EXPECT_EQ(used[1].written, 49u);
  EXPECT_EQ(guest.load<PacketHeader>(first).source_cid, 2u);
  EXPECT_EQ(guest.load<PacketHeader>(first).target_cid, 3u);
  EXPECT_EQ(guest.load<PacketHeader>(first).bytes, 6u);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest.at(second + 44)), 5), "guest");
}

TEST_P(VsockTest, WaitsForSocketsThatCannotTakeMoreAndForBuffers) {
  sockets.takes = false;
  send(to_host(Operation::ReadWrite, 1), "a");
  EXPECT_EQ(driver.used(1).size(), 0u);
  sockets.waiting.emplace_back(PacketHeader{.type = 1, .operation = 5}, "b");
  sockets.takes = true;
  vsock.run();
  EXPECT_EQ(driver.used(1).size(), 1u);
  offer(100);
  driver.kick(0);
  EXPECT_EQ(driver.used(0).size(), 1u);
}

TEST_P(VsockTest, AnswersWhatIsNotAStreamWithAReset) {
  PacketHeader header = to_host(Operation::Request);
  header.type = 2;
  send(header);
  EXPECT_TRUE(sockets.sent.empty());
  const u64 at = offer(100);
  driver.kick(0);
  ASSERT_EQ(driver.used(0).size(), 1u);
  EXPECT_EQ(guest.load<PacketHeader>(at).operation, static_cast<u16>(Operation::Reset));
  EXPECT_EQ(guest.load<PacketHeader>(at).target_port, 1000u);
}

TEST_P(VsockTest, LosesWhatIsNotForThisHost) {
  PacketHeader header = to_host(Operation::Request);
  header.target_cid = 7;
  send(header);
  header = to_host(Operation::Request);
  header.source_cid = 2;
  send(header);
  EXPECT_TRUE(sockets.sent.empty());
  EXPECT_EQ(driver.used(1).size(), 2u);
}

TEST_P(VsockTest, APacketShorterThanItSaysStopsTheDevice) {
  send(to_host(Operation::ReadWrite, 6), "short");
  EXPECT_NE(driver.status() & DeviceStatus::needs_reset, 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, VsockTest, ::testing::Values(0, Feature::packed | Feature::event_index),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Vsock, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(vsock_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::vsock
