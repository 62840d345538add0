// The ports that need no guest: packets between two places on a switch, what is written into a capture.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <vector>

#include "host/file_bytes.hpp"
#include "net/capture.hpp"
#include "net/intake.hpp"
#include "net/switch_port.hpp"
#include "net/tap.hpp"

namespace nacre::net {
namespace {

using Bytes = std::vector<u8>;
using ::testing::HasSubstr;
using virtio::net::Offloads;

struct Folder {
  Folder() {
    char name[] = "/tmp/nacre-ports-XXXXXX";
    path = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string path;
};

Bytes frame(u8 to, u8 from, usize payload) {
  Bytes bytes(14 + payload, from);
  for (unsigned i = 0; i < 6; ++i) bytes[i] = to == 0xff ? 0xff : 2, bytes[6 + i] = 2;
  bytes[5] = to;
  bytes[11] = from;
  store16(&bytes[12], 0x88b5);
  return bytes;
}

bool send(Port& port, const Bytes& bytes, const Header& header = {}) {
  Bytes copy = bytes;
  const virtio::Segment pieces[] = {{copy.data(), 0, 7},
                                    {copy.data() + 7, 7, static_cast<u32>(copy.size() - 7)}};
  return port.send(header, pieces, 2, 0);
}

Bytes receive(Port& port) {
  std::vector<pollfd> descriptors;
  static_cast<void>(port.wait_for(descriptors));
  EXPECT_GE(poll(descriptors.data(), descriptors.size(), 0), 0);
  port.happened(descriptors);
  Bytes to(kMostPacket);
  Header header;
  unsigned pair = virtio::net::Network::kAnyPair;
  to.resize(port.receive(to.data(), header, pair));
  return to;
}

struct SwitchTest : ::testing::Test {
  Folder folder;
  std::string lan = folder.path + "/lan";
  std::unique_ptr<SwitchPort> join() {
    auto port = SwitchPort::create(lan);
    EXPECT_TRUE(port) << port.error().message();
    return port.take();
  }
};

TEST_F(SwitchTest, FramesGoToAllUntilItIsKnownWhereTo) {
  const auto a = join(), b = join(), c = join();
  EXPECT_TRUE(receive(*a).empty());
  const Bytes question = frame(0xff, 1, 50), answer = frame(1, 2, 2000);
  EXPECT_TRUE(send(*a, question));
  EXPECT_EQ(receive(*b), question);
  EXPECT_EQ(receive(*c), question);
  EXPECT_TRUE(receive(*a).empty());
  EXPECT_TRUE(send(*b, answer));
  EXPECT_EQ(receive(*a), answer);
  EXPECT_TRUE(receive(*c).empty());
}

TEST_F(SwitchTest, WhoLeavesIsForgottenAndWhoComesBackIsFound) {
  const auto a = join();
  auto b = join();
  EXPECT_TRUE(send(*b, frame(0xff, 2, 50)));
  EXPECT_FALSE(receive(*a).empty());
  b.reset();
  EXPECT_TRUE(send(*a, frame(2, 1, 50)));
  b = join();
  EXPECT_TRUE(send(*a, frame(2, 1, 60)));
  EXPECT_EQ(receive(*b), frame(2, 1, 60));
  // Its first socket went when it came back.
  unsigned sockets = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(lan)) ++sockets;
  EXPECT_EQ(sockets, 2U);
}

TEST_F(SwitchTest, AGuestThatStandsStillHoldsNobodyUpForEver) {
  const auto a = join(), b = join();
  EXPECT_TRUE(send(*b, frame(0xff, 2, 50)));
  EXPECT_FALSE(receive(*a).empty());
  unsigned waits = 0;
  for (unsigned i = 0; i < 2000 && waits < 1000; ++i) waits += send(*a, frame(2, 1, 60'000)) ? 0 : 1;
  EXPECT_GE(waits, 50U);
  std::vector<pollfd> descriptors;
  EXPECT_TRUE(send(*a, frame(0xff, 1, 50)));
  EXPECT_FALSE(receive(*b).empty());
}

TEST_F(SwitchTest, WhatIsNoFrameIsPassedOver) {
  const auto a = join();
  const int other = socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = std::filesystem::directory_iterator(lan)->path();
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(connect(other, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  Bytes large(12 + kMostPacket + 1, 0xff);
  for (const usize bytes : {usize{0}, usize{11}, usize{25}, large.size()})
    EXPECT_EQ(::send(other, large.data(), bytes, 0), static_cast<ssize_t>(bytes));
  Bytes good(12);
  const Bytes packet = frame(0xff, 9, 46);
  good.insert(good.end(), packet.begin(), packet.end());
  EXPECT_EQ(::send(other, good.data(), good.size(), 0), static_cast<ssize_t>(good.size()));
  EXPECT_EQ(receive(*a), packet);
  close(other);
}

TEST_F(SwitchTest, SaysWhatIsWrongWithTheFolder) {
  const auto missing = SwitchPort::create(folder.path + "/no/such");
  ASSERT_FALSE(missing);
  EXPECT_THAT(missing.error().message(), HasSubstr("/no/such"));
  const auto name_too_long = SwitchPort::create(folder.path + "/" + std::string(90, 'x'));
  ASSERT_FALSE(name_too_long);
  EXPECT_THAT(name_too_long.error().message(), HasSubstr("too long"));
  EXPECT_FALSE(SwitchPort::create("/dev/null"));
}

TEST(Tap, SaysWhatIsMissing) {
  const auto nowhere = Tap::create("nacre-nowhere", 1);
  ASSERT_FALSE(nowhere);
  EXPECT_THAT(nowhere.error().message(), HasSubstr("ip tuntap add"));
  EXPECT_FALSE(Tap::create("a-name-of-many-letters", 1));
  EXPECT_FALSE(Tap::create("lo", 2));
}

// A UDP packet over IPv4 whose checksum has been left undone.
Header unfinished(Bytes& bytes) {
  bytes = frame(1, 2, 40);
  store16(&bytes[12], 0x0800);
  store16(&bytes[40], 0);
  Header header;
  header.flags = Header::needs_csum;
  header.csum_start = 34;
  header.csum_offset = 6;
  return header;
}

TEST(Intake, FinishesWhatTheGuestDoesNotTake) {
  Bytes bytes;
  const Header header = unfinished(bytes);
  for (const bool takes : {false, true}) {
    Intake intake;
    std::copy(bytes.begin(), bytes.end(), intake.buffer());
    intake.accept(header, bytes.size(), {.csum = takes, .tso4 = false, .tso6 = false});
    Header got;
    Bytes to(kMostPacket);
    ASSERT_TRUE(intake.waiting());
    to.resize(intake.next(to.data(), got));
    EXPECT_FALSE(intake.waiting());
    EXPECT_EQ(got.flags, takes ? Header::needs_csum : 0);
    EXPECT_EQ(to == bytes, takes);
    if (!takes) {
      EXPECT_EQ(ones_sum({&to[34], to.size() - 34}), 0xffff);
    }
  }
}

TEST(Intake, DropsWhatPointsOutsideOfThePacket) {
  Bytes bytes;
  Header header = unfinished(bytes);
  header.csum_start = 5000;
  for (const u8 kind : {Header::none, Header::tcp4, Header::tcp6, u8{77}}) {
    for (const bool takes : {false, true}) {
      Intake intake;
      std::copy(bytes.begin(), bytes.end(), intake.buffer());
      header.gso_type = kind;
      header.gso_bytes = 1400;
      intake.accept(header, bytes.size(), {.csum = takes, .tso4 = takes, .tso6 = takes});
      EXPECT_FALSE(intake.waiting());
    }
  }
}

// One packet each way; what is written down is what a reader of the format finds.
struct OnePacket final : Port {
  Bytes sent;
  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Link; }
  bool send(const Header&, const virtio::Segment* pieces, unsigned count, unsigned) override {
    sent.resize(kMostPacket);
    sent.resize(gather(pieces, count, sent.data()));
    return true;
  }
  usize receive(u8* to, Header&, unsigned&) override {
    const Bytes packet = frame(3, 4, 100);
    std::copy(packet.begin(), packet.end(), to);
    return packet.size();
  }
  void set_offloads(const Offloads&) override {}
  int wait_for(std::vector<pollfd>&) override { return -1; }
  void happened(std::span<const pollfd>) override {}
};

TEST(Capture, IsInTheFormatOfLibpcap) {
  const Folder folder;
  const std::string path = folder.path + "/pcap";
  {
    auto port = Capture::create(std::make_unique<OnePacket>(), path);
    ASSERT_TRUE(port);
    Bytes bytes;
    const Header header = unfinished(bytes);
    EXPECT_TRUE(send(*port.value(), bytes, header));
    EXPECT_EQ(receive(*port.value()), frame(3, 4, 100));
  }
  const auto file = host::FileBytes::read(path.c_str(), "capture", 1 << 20, "");
  ASSERT_TRUE(file);
  const auto bytes = file.value().bytes();
  ASSERT_EQ(bytes.size(), 24U + 16 + 54 + 16 + 114);
  u32 words[6];
  std::memcpy(words, bytes.data(), sizeof words);
  EXPECT_EQ(words[0], 0xa1b23c4d);
  EXPECT_EQ(words[1], 0x00040002U);
  EXPECT_EQ(words[5], 1U);
  std::memcpy(words, &bytes[24], 16);
  EXPECT_EQ(words[2], 54U);
  EXPECT_EQ(words[3], 54U);
  EXPECT_EQ(ones_sum(bytes.subspan(40 + 34, 20)), 0xffff);  // the checksum is finished
  EXPECT_TRUE(std::ranges::equal(bytes.last(114), frame(3, 4, 100)));
  EXPECT_FALSE(Capture::create(std::make_unique<OnePacket>(), folder.path));
}

}  // namespace
}  // namespace nacre::net
