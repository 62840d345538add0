// Both ends of a cable, and a network behind one in a process of its own.
#include "net/cable.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <vector>

#include "net/process.hpp"
#include "net/switch_port.hpp"

namespace nacre::net {
namespace {

using Bytes = std::vector<u8>;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using virtio::net::Offloads;

constexpr Offloads kAll = {.csum = true, .tso4 = true, .tso6 = true};

// To all, so that a switch needs to learn nothing.
Bytes frame(u8 number, usize payload = 46) {
  Bytes bytes(kEthernetBytes + payload, number);
  for (unsigned i = 0; i < 12; ++i) bytes[i] = i < 6 ? 0xff : 0x02;
  store16(&bytes[12], 0x88b5);
  return bytes;
}

// A network that keeps what it is sent, and has what it was given.
class FakePort final : public Port {
 public:
  struct Packet {
    Header header;
    Bytes bytes;
  };
  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Link; }
  bool send(const Header& header, const virtio::Segment* pieces, unsigned count, unsigned) override {
    if (refuses) return false;
    Bytes bytes(kMostPacket);
    bytes.resize(gather(pieces, count, bytes.data()));
    sent.push_back({header, bytes});
    return true;
  }
  usize receive(u8* to, Header& header, unsigned&) override {
    if (waiting.empty()) return 0;
    const Packet packet = waiting.front();
    waiting.pop_front();
    std::copy(packet.bytes.begin(), packet.bytes.end(), to);
    header = packet.header;
    return packet.bytes.size();
  }
  void set_offloads(const Offloads& wanted) override { offloads = wanted; }
  int wait_for(std::vector<pollfd>&) override { return -1; }
  void happened(std::span<const pollfd>) override {}

  bool refuses = false;
  Offloads offloads;
  std::vector<Packet> sent;
  std::deque<Packet> waiting;
};

bool send(Port& port, const Bytes& bytes, const Header& header = {}) {
  Bytes copy = bytes;
  const virtio::Segment pieces[] = {{copy.data(), 0, 7},
                                    {copy.data() + 7, 7, static_cast<u32>(copy.size() - 7)}};
  return port.send(header, pieces, 2, 0);
}

Bytes receive(Port& port, int milliseconds = 0, Header* header = nullptr) {
  std::vector<pollfd> descriptors;
  static_cast<void>(port.wait_for(descriptors));
  EXPECT_GE(poll(descriptors.data(), descriptors.size(), milliseconds), 0);
  port.happened(descriptors);
  Bytes to(kMostPacket);
  Header got;
  unsigned pair = virtio::net::Network::kAnyPair;
  to.resize(port.receive(to.data(), got, pair));
  if (header != nullptr) *header = got;
  return to;
}

struct CableTest : testing::Test {
  CableTest() {
    signal(SIGPIPE, SIG_IGN);  // as on a device's thread
    auto ends = make_cable().take();
    raw = ends.second.number();
    machine.emplace(std::move(ends.first));
    machine->set_offloads(kAll);
    server = std::make_unique<CableServer>(port, std::move(ends.second));
  }
  FakePort port;
  int raw = -1;  // the server's socket
  std::optional<Cable> machine;
  std::unique_ptr<CableServer> server;
};

TEST_F(CableTest, CarriesPacketsAndTheirHeadersBothWays) {
  const Header unfinished = {.flags = Header::needs_csum, .csum_start = 14, .csum_offset = 2};
  ASSERT_TRUE(send(*machine, frame(1), unfinished));
  ASSERT_TRUE(send(*machine, frame(2, 65000)));
  port.waiting.push_back({unfinished, frame(3)});
  ASSERT_TRUE(server->turn(0));
  ASSERT_EQ(port.sent.size(), 2U);
  EXPECT_EQ(port.sent[0].bytes, frame(1));
  EXPECT_EQ(port.sent[0].header.flags, Header::needs_csum);
  EXPECT_EQ(port.sent[0].header.csum_offset, 2);
  EXPECT_EQ(port.sent[1].bytes, frame(2, 65000));
  EXPECT_EQ(port.offloads, kAll);
  Header header;
  EXPECT_EQ(receive(*machine, 0, &header), frame(3));
  EXPECT_EQ(header.flags, Header::needs_csum);
  EXPECT_TRUE(receive(*machine).empty());
}

TEST_F(CableTest, AChecksumThatTheGuestDoesNotTakeIsFinishedAtItsEnd) {
  machine->set_offloads({});
  Bytes packet = frame(3);
  packet[16] = packet[17] = 0;
  port.waiting.push_back({{.flags = Header::needs_csum, .csum_start = 14, .csum_offset = 2}, packet});
  ASSERT_TRUE(server->turn(0));
  Header header;
  const Bytes got = receive(*machine, 0, &header);
  ASSERT_EQ(got.size(), packet.size());
  EXPECT_EQ(header.flags, 0);
  EXPECT_EQ(ones_sum(std::span(got).subspan(14)), 0xffff);
}

TEST_F(CableTest, WhatHasNoRoomIsHeldBackAndNothingIsLost) {
  u8 sent = 0;
  while (send(*machine, frame(sent, 60000))) ASSERT_LT(++sent, 200);
  ASSERT_GT(sent, 0);
  std::vector<pollfd> descriptors;
  static_cast<void>(machine->wait_for(descriptors));
  EXPECT_NE(descriptors[0].events & POLLOUT, 0);
  for (unsigned i = 0; i < 100; ++i) port.waiting.push_back({{}, frame(static_cast<u8>(i), 60000)});
  ASSERT_TRUE(server->turn(0));
  EXPECT_TRUE(send(*machine, frame(sent, 60000)));
  ASSERT_TRUE(server->turn(0));
  ASSERT_EQ(port.sent.size(), sent + 1U);
  for (unsigned i = 0; i <= sent; ++i) EXPECT_EQ(port.sent[i].bytes, frame(static_cast<u8>(i), 60000)) << i;
  EXPECT_FALSE(port.waiting.empty());  // they wait where there is room
  for (unsigned i = 0; i < 100; ++i) {
    EXPECT_EQ(receive(*machine), frame(static_cast<u8>(i), 60000)) << i;
    ASSERT_TRUE(server->turn(0));
  }
}

TEST_F(CableTest, APacketThatTheNetworkDoesNotTakeYetIsOfferedAgain) {
  port.refuses = true;
  ASSERT_TRUE(send(*machine, frame(1)));
  ASSERT_TRUE(send(*machine, frame(2)));
  ASSERT_TRUE(server->turn(0));
  EXPECT_TRUE(port.sent.empty());
  port.refuses = false;
  ASSERT_TRUE(server->turn(0));
  ASSERT_EQ(port.sent.size(), 2U);
  EXPECT_EQ(port.sent[0].bytes, frame(1));
  EXPECT_EQ(port.sent[1].bytes, frame(2));
}

TEST_F(CableTest, WhatIsNoPacketIsLeftOut) {
  const u8 nonsense[64] = {0xff, 0xff, 0xff};
  ASSERT_EQ(write(raw, nonsense, 5), 5);
  ASSERT_EQ(write(raw, nonsense, sizeof nonsense), 64);  // segments of no bytes, of no packet
  EXPECT_TRUE(receive(*machine).empty());
  port.waiting.push_back({{}, frame(4)});
  ASSERT_TRUE(server->turn(0));
  EXPECT_EQ(receive(*machine), frame(4));
}

TEST_F(CableTest, TheServerEndsWithTheMachinesEnd) {
  machine.reset();
  EXPECT_FALSE(server->turn(0));
}

TEST_F(CableTest, AServerThatIsGoneLeavesWhatItHadSentAndASilentCard) {
  port.waiting.push_back({{}, frame(5)});
  ASSERT_TRUE(server->turn(0));
  server.reset();
  testing::internal::CaptureStderr();
  EXPECT_EQ(receive(*machine), frame(5));
  EXPECT_TRUE(receive(*machine).empty());
  EXPECT_TRUE(receive(*machine).empty());
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "nacre: The process of an attached network has ended; its card hears nothing any more.\n");
  EXPECT_TRUE(send(*machine, frame(6)));
  std::vector<pollfd> descriptors;
  static_cast<void>(machine->wait_for(descriptors));
  EXPECT_EQ(descriptors[0].fd, -1);  // or poll would not wait
}

struct NetworkProcessTest : testing::Test {
  NetworkProcessTest() {
    char name[] = "/tmp/nacre-cable-XXXXXX";
    folder = mkdtemp(name);
    log = host::open_for_writing((folder + "/log").c_str()).take();
  }
  ~NetworkProcessTest() override { std::filesystem::remove_all(folder); }
  std::string folder;
  host::UniqueFd log;
};

TEST_F(NetworkProcessTest, CarriesPacketsUntilTheCableIsGone) {
  NetConfig config;
  config.kind = NetConfig::Kind::Switch;
  config.place = folder + "/lan";
  auto end = start_process(config, log);
  ASSERT_TRUE(end) << end.error().message();
  const auto other = SwitchPort::create(config.place).take();
  other->set_offloads(kAll);
  {
    Cable machine(end.take());
    machine.set_offloads(kAll);
    ASSERT_TRUE(send(machine, frame(1)));
    EXPECT_EQ(receive(*other, 20000), frame(1));
    ASSERT_TRUE(send(*other, frame(2)));
    EXPECT_EQ(receive(machine, 20000), frame(2));
  }
  int status = 0;
  EXPECT_GT(waitpid(-1, &status, 0), 0);
  EXPECT_EQ(status, 0);  // and the system call filter had nothing against any of it
}

TEST_F(NetworkProcessTest, WhatCannotBeIsSaid) {
  NetConfig config;
  config.kind = NetConfig::Kind::Tap;
  config.place = "no-such-tap";
  const auto end = start_process(config, log);
  ASSERT_FALSE(end);
  EXPECT_THAT(end.error().message(), HasSubstr("There is no network interface no-such-tap"));
  int status = 0;
  EXPECT_GT(waitpid(-1, &status, 0), 0);
}

}  // namespace
}  // namespace nacre::net
