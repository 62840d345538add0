#include "virtio/net/device.hpp"

#include <gtest/gtest.h>

#include "virtio/net/net_sequence.hpp"

namespace nacre::virtio::net {
namespace {

using testing::Driver;
using testing::Guest;
using F = NetFeature;

struct NetTest : ::testing::TestWithParam<u64> {
  Guest guest;
  ListNetwork network;
  Net net{guest.space, guest.ports(), network, {.mac = {2, 0, 0, 0, 0, 1}, .pairs = 2, .mtu = 1400}};
  Driver driver{guest, net};
  static constexpr u64 kPlain = F::mac | F::status | F::ctrl_vq | F::ctrl_mac_addr | F::guest_announce;

  void bring_up(u64 features = kPlain) {
    ASSERT_TRUE(driver.bring_up(Feature::version_1 | GetParam() | features, 16));
  }
  u64 config(u64 offset, unsigned size) { return driver.read(BarLayout::device + offset, size); }
  void transmit(const Header& header, const std::string& packet) {
    const u64 at = driver.allocate(12 + packet.size());
    std::memcpy(guest.at(at), &header, 12);
    std::memcpy(guest.at(at + 12), packet.data(), packet.size());
    driver.add(1, {{at, 7}, {at + 7, static_cast<u32>(5 + packet.size())}}, {});
    driver.kick(1);
  }
  u8 command(unsigned queue, u8 kind, u8 what, const std::string& data) {
    const u8 head[2] = {kind, what};
    const u64 at = driver.put(head, 2), more = driver.put(data.data(), data.size()),
              answer = driver.allocate(1);
    guest.store<u8>(answer, 0xee);
    std::vector<Driver::Buffer> out = {{at, 2}};
    if (!data.empty()) out.push_back({more, static_cast<u32>(data.size())});
    driver.add(queue, out, {{answer, 1}});
    driver.kick(queue);
    driver.used(queue);
    return guest.load<u8>(answer);
  }
  static std::string packet(usize bytes, char fill = 'p') { return std::string(bytes, fill); }
};

TEST_P(NetTest, ConfigurationSaysWhatTheInterfaceIs) {
  bring_up();
  EXPECT_EQ(config(0, 4), 2u);
  EXPECT_EQ(config(4, 2), 0x0100u);
  EXPECT_EQ(config(6, 2), u64{LinkStatus::up});
  EXPECT_EQ(config(8, 2), 2u);
  EXPECT_EQ(config(10, 2), 1400u);
}

TEST_P(NetTest, FeaturesNeedEachOther) {
  EXPECT_FALSE(driver.bring_up(Feature::version_1 | F::guest_tso4));
  EXPECT_FALSE(driver.bring_up(Feature::version_1 | F::host_tso6));
  EXPECT_FALSE(driver.bring_up(Feature::version_1 | F::multi_queue));
  EXPECT_TRUE(driver.bring_up(Feature::version_1 | F::guest_tso4 | F::guest_csum));
  EXPECT_EQ(network.offloads, (Offloads{.csum = true, .tso4 = true}));
}

TEST_P(NetTest, SendsPacketsWhateverTheFraming) {
  bring_up();
  transmit({}, packet(60, 'a'));
  transmit({}, packet(1514, 'b'));
  ASSERT_EQ(network.sent.size(), 2u);
  EXPECT_EQ(network.sent[0].second, packet(60, 'a'));
  EXPECT_EQ(network.sent[1].second, packet(1514, 'b'));
  EXPECT_EQ(driver.used(1).size(), 2u);
}

TEST_P(NetTest, DropsWhatAsksForMoreThanWasNegotiated) {
  bring_up();
  transmit({.flags = Header::needs_csum, .csum_start = 14, .csum_offset = 6}, packet(60));
  transmit({.gso_type = Header::tcp4, .gso_bytes = 1000}, packet(4000));
  transmit({}, packet(13));
  transmit({}, packet(kMostPacket + 1));
  EXPECT_TRUE(network.sent.empty());
  EXPECT_EQ(driver.used(1).size(), 4u);
  bring_up(kPlain | F::csum | F::host_tso4);
  transmit({.flags = Header::needs_csum, .csum_start = 14, .csum_offset = 6}, packet(60));
  transmit({.flags = Header::needs_csum, .csum_start = 58, .csum_offset = 6}, packet(60));  // beyond its end
  transmit({.flags = Header::needs_csum,
            .gso_type = Header::tcp4,
            .gso_bytes = 1000,
            .csum_start = 34,
            .csum_offset = 16},
           packet(4000));
  EXPECT_EQ(network.sent.size(), 2u);
}

TEST_P(NetTest, WaitsForANetworkThatCannotTakeMore) {
  bring_up();
  network.takes = false;
  transmit({}, packet(60, 'a'));
  transmit({}, packet(60, 'b'));
  EXPECT_EQ(driver.used(1).size(), 0u);
  network.takes = true;
  net.run();
  EXPECT_EQ(driver.used(1).size(), 2u);
  ASSERT_EQ(network.sent.size(), 2u);
  EXPECT_EQ(network.sent[0].second, packet(60, 'a'));
}

TEST_P(NetTest, ReceivesIntoOneBuffer) {
  bring_up();
  const u64 at = driver.allocate(2000);
  driver.add(0, {}, {{at, 11}, {at + 11, 1989}});
  network.waiting.emplace_back(Header{.flags = Header::data_valid}, packet(100, 'r'));
  net.run();
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].written, 112u);
  EXPECT_EQ(guest.load<u8>(at), Header::data_valid);
  EXPECT_EQ(guest.load<u16>(at + 10), 1);
  EXPECT_EQ(guest.load<u8>(at + 12), 'r');
  EXPECT_EQ(driver.interrupts(0), 1u);
}

TEST_P(NetTest, APacketWaitsForBuffers) {
  bring_up();
  network.waiting.emplace_back(Header{}, packet(100, 'r'));
  net.run();
  const u64 at = driver.allocate(2000);
  driver.add(0, {}, {{at, 2000}});
  driver.kick(0);
  EXPECT_EQ(driver.used(0).size(), 1u);
}

TEST_P(NetTest, WithoutMergeableBuffersATooLargePacketIsLost) {
  bring_up();
  const u64 at = driver.allocate(2000);
  driver.add(0, {}, {{at, 60}});
  network.waiting.emplace_back(Header{}, packet(100, 'l'));
  network.waiting.emplace_back(Header{}, packet(40, 's'));
  net.run();
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 1u);
  EXPECT_EQ(used[0].written, 52u);
  EXPECT_EQ(guest.load<u8>(at + 12), 's');
}

TEST_P(NetTest, SpreadsALargePacketOverMergeableBuffers) {
  bring_up(kPlain | F::mergeable);
  const u64 at = driver.allocate(4096);
  network.waiting.emplace_back(Header{}, packet(2500, 'm'));
  driver.add(0, {}, {{at, 1000}});
  driver.add(0, {}, {{at + 1000, 1000}});
  net.run();
  EXPECT_EQ(driver.used(0).size(), 0u);  // two are not enough: none is used
  driver.add(0, {}, {{at + 2000, 1000}});
  driver.kick(0);
  const auto used = driver.used(0);
  ASSERT_EQ(used.size(), 3u);
  EXPECT_EQ(used[0].written, 1000u);
  EXPECT_EQ(used[2].written, 512u);
  EXPECT_EQ(guest.load<u16>(at + 10), 3);
  EXPECT_EQ(std::string(reinterpret_cast<char*>(guest.at(at + 12)), 2500), packet(2500, 'm'));
  EXPECT_EQ(driver.interrupts(0), 1u);
}

TEST_P(NetTest, FlowsStayInTheirQueuePair) {
  bring_up(kPlain | F::multi_queue);
  EXPECT_EQ(command(4, 4, 0, std::string("\2\0", 2)), Control::ok);
  EXPECT_EQ(command(4, 4, 0, std::string("\3\0", 2)), Control::error);
  unsigned first = 0, second = 0;
  for (char flow = 0; flow < 8; ++flow) {
    for (unsigned queue : {0u, 2u}) {
      const u64 at = driver.allocate(200);
      driver.add(queue, {}, {{at, 200}});
    }
    std::string tcp = packet(60, '\0');
    tcp[12] = 8;
    tcp[23] = 6;
    tcp[35] = flow;
    network.waiting.emplace_back(Header{}, tcp);
    net.run();
    first += static_cast<unsigned>(driver.used(0).size());
    second += static_cast<unsigned>(driver.used(2).size());
  }
  EXPECT_EQ(first + second, 8u);
  EXPECT_GT(first, 0u);
  EXPECT_GT(second, 0u);
}

// A network that has queues of its own says by which pair; a driver that uses one has all there.
TEST_P(NetTest, TheNetworkMayChooseThePair) {
  bring_up(kPlain | F::multi_queue);
  for (const unsigned pairs : {1U, 2U}) {
    if (pairs == 2) {
      ASSERT_EQ(command(4, 4, 0, std::string("\2\0", 2)), Control::ok);
    }
    for (const unsigned queue : {0U, 2U}) driver.add(queue, {}, {{driver.allocate(200), 200}});
    network.next_pair = 1;
    network.waiting.emplace_back(Header{}, packet(60));
    net.run();
    EXPECT_EQ(driver.used(0).size(), 2 - pairs);
    EXPECT_EQ(driver.used(2).size(), pairs - 1);
  }
  const u64 at = driver.allocate(100);
  guest.store<u64>(at, 0);
  guest.store<u32>(at + 8, 0);
  driver.add(3, {{at, 100}}, {});
  driver.kick(3);
  EXPECT_EQ(network.last_pair, 1U);
}

TEST_P(NetTest, ControlCommands) {
  bring_up(kPlain | F::guest_csum | F::ctrl_guest_offloads);
  EXPECT_EQ(command(2, 1, 1, "\6\5\4\3\2\1"), Control::ok);
  EXPECT_EQ(config(0, 2), 0x0506u);
  EXPECT_EQ(command(2, 1, 1, "short"), Control::error);
  EXPECT_EQ(command(2, 9, 9, ""), Control::error);
  EXPECT_TRUE(network.offloads.csum);
  EXPECT_EQ(command(2, 5, 0, std::string(8, '\0')), Control::ok);
  EXPECT_FALSE(network.offloads.csum);
  EXPECT_EQ(command(2, 5, 0, std::string("\200\0\0\0\0\0\0\0", 8)),
            Control::error);  // tso4 was not negotiated
  net.announce();
  driver.transport().config_interrupt();
  EXPECT_EQ(config(6, 2), u64{LinkStatus::up | LinkStatus::announce});
  EXPECT_EQ(driver.config_interrupts(), 1u);
  EXPECT_EQ(command(2, 3, 0, ""), Control::ok);
  EXPECT_EQ(config(6, 2), u64{LinkStatus::up});
}

TEST_P(NetTest, ACableThatIsOutCarriesNothing) {
  bring_up();
  net.set_link(false);
  EXPECT_EQ(config(6, 2), 0u);
  const u64 at = driver.allocate(200);
  driver.add(0, {}, {{at, 200}});
  network.waiting.emplace_back(Header{}, packet(60));
  transmit({}, packet(60));
  EXPECT_TRUE(network.sent.empty());
  EXPECT_EQ(driver.used(0).size(), 0u);
  EXPECT_EQ(driver.used(1).size(), 1u);
}

TEST_P(NetTest, ItsStateComesBack) {
  bring_up(kPlain | F::multi_queue);
  command(4, 4, 0, std::string("\2\0", 2));
  command(4, 1, 1, "\6\5\4\3\2\1");
  const auto transport = driver.transport().state();
  const Net::State state = net.state();
  driver.reset();
  EXPECT_NE(net.state(), state);
  ASSERT_TRUE(driver.transport().load(transport).ok());
  ASSERT_TRUE(net.load(state).ok());
  EXPECT_EQ(net.state(), state);
  Net::State bad = state;
  bad.active_pairs = 3;
  EXPECT_FALSE(net.load(bad).ok());
}

INSTANTIATE_TEST_SUITE_P(Formats, NetTest, ::testing::Values(0, Feature::packed | Feature::event_index),
                         [](const auto& format) { return format.param == 0 ? "split" : "packed"; });

TEST(Net, SurvivesRandomSequences) {
  nacre::testing::run_random_sequences(net_sequence, 1000);
}

}  // namespace
}  // namespace nacre::virtio::net
