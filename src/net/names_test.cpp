#include "net/names.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "net/frame.hpp"

namespace nacre::net {
namespace {

using Bytes = std::vector<u8>;

constexpr Address4 kServer = {192, 0, 2, 53};
constexpr Address6 kServer6 = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};

std::string question(const std::string& name, u8 type) {
  std::string text("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00", 12);
  for (usize begin = 0; begin <= name.size();) {
    const usize end = std::min(name.find('.', begin), name.size());
    text += static_cast<char>(end - begin);
    text += name.substr(begin, end - begin);
    begin = end + 1;
  }
  text += std::string(1, 0) + std::string(1, 0) + static_cast<char>(type) + std::string("\0\1", 2);
  return text;
}

// UDP from port 5000 of 10.0.2.15 or fec0::f, whole and with right checksums.
Bytes udp(std::span<const u8> to, u16 port, const std::string& payload) {
  const bool v6 = to.size() == 16;
  const usize header = v6 ? 54 : 34;
  Bytes frame(header + 8 + payload.size());
  store16(&frame[12], v6 ? 0x86dd : 0x0800);
  u8* const ip = &frame[14];
  const u16 bytes = static_cast<u16>(8 + payload.size());
  const Plan plan;
  if (v6) {
    ip[0] = 0x60;
    store16(ip + 4, bytes);
    ip[6] = 17;
    ip[8] = 0xfe, ip[9] = 0xc0, ip[23] = 15;
    std::copy(to.begin(), to.end(), ip + 24);
  } else {
    ip[0] = 0x45;
    store16(ip + 2, bytes + 20U);
    ip[9] = 17;
    std::copy(plan.guest.begin(), plan.guest.end(), ip + 12);
    std::copy(to.begin(), to.end(), ip + 16);
    store16(ip + 10, static_cast<u16>(~ones_sum({ip, 20})));
  }
  u8* const transport = &frame[header];
  store16(transport, 5000);
  store16(transport + 2, port);
  store16(transport + 4, bytes);
  std::copy(payload.begin(), payload.end(), transport + 8);
  store16(transport + 6, transport_checksum({ip + (v6 ? 8 : 12), v6 ? 32U : 8U}, 17, {transport, bytes}));
  return frame;
}

void expect_right_sums(std::span<const u8> frame) {
  const bool v6 = load16(&frame[12]) == 0x86dd;
  const usize header = v6 ? 54 : 34;
  const std::span<const u8> packet = frame.subspan(header);
  u8 rest[4] = {0, 17};
  store16(rest + 2, static_cast<u32>(packet.size()));
  const u16 addresses = ones_sum(frame.subspan(v6 ? 22 : 26, v6 ? 32 : 8));
  EXPECT_EQ(ones_sum(packet, ones_sum(rest, addresses)), 0xffff);
  if (!v6) {
    EXPECT_EQ(ones_sum(frame.subspan(14, 20)), 0xffff);
  }
}

std::string payload(std::span<const u8> frame) {
  const usize begin = load16(&frame[12]) == 0x86dd ? 62 : 42;
  return {frame.begin() + static_cast<long>(begin), frame.end()};
}

// An answer as it would come back: addresses and ports turned round.
Bytes reply_to(Bytes frame) {
  const bool v6 = load16(&frame[12]) == 0x86dd;
  const auto addresses = frame.begin() + (v6 ? 22 : 26);
  const long size = v6 ? 16 : 4;
  std::swap_ranges(addresses, addresses + size, addresses + size);
  const auto ports = frame.begin() + (v6 ? 54 : 34);
  std::swap_ranges(ports, ports + 2, ports + 2);
  return frame;
}

struct NamesTest : ::testing::Test {
  Plan plan;
  Names names{plan, {.v4 = kServer, .v6 = kServer6}};
};

TEST(NameServers, AreTheFirstOfEachFamily) {
  const auto found = NameServers::parse(
      "# nameserver 192.0.2.1\n\tnameserver 192.0.2.2\nnameserverx\nnameserver\nnameserver \nnameserver "
      "fe80::1%eth0\n"
      "nameserver\t 192.0.2.53 \r\nnameserver 2001:db8::1\nnameserver 192.0.2.4\nsearch example.org");
  EXPECT_EQ(found.v4, kServer);
  EXPECT_EQ(found.v6, kServer6);
  const auto none = NameServers::parse("");
  EXPECT_FALSE(none.v4 || none.v6);
}

TEST(Plan, MovesAsideForAnotherOfItsKind) {
  EXPECT_EQ(Plan::beside({.v4 = kServer}).names, (Address4{10, 0, 2, 3}));
  EXPECT_EQ(Plan::beside({.v4 = Address4{10, 0, 2, 3}}).names, (Address4{10, 0, 3, 3}));
}

TEST_F(NamesTest, QuestionsGoToTheHostsServerAndAnswersComeFromTheGuests) {
  const std::span<const u8> told[] = {plan.names, plan.names6}, real[] = {kServer, kServer6};
  for (unsigned i = 0; i < 2; ++i) {
    Bytes frame = udp(told[i], 53, question("example.org", 1));
    ASSERT_EQ(names.from_guest(frame), Names::Fate::Pass);
    EXPECT_EQ(frame, udp(real[i], 53, question("example.org", 1)));
    Bytes back = reply_to(frame);
    names.to_guest(back);
    EXPECT_EQ(back, reply_to(udp(told[i], 53, question("example.org", 1))));
  }
}

TEST_F(NamesTest, WhoAsksTheRealServerHearsFromIt) {
  Bytes first = udp(plan.names, 53, question("example.org", 1)),
        second = udp(kServer, 53, question("example.org", 1));
  ASSERT_EQ(names.from_guest(first), Names::Fate::Pass);
  ASSERT_EQ(names.from_guest(second), Names::Fate::Pass);
  Bytes back = reply_to(second);
  const Bytes before = back;
  names.to_guest(back);
  EXPECT_EQ(back, before);
}

TEST_F(NamesTest, TheHostHasAName) {
  Bytes frame = udp(plan.names, 53, question("HOST.nacre.Internal", 1));
  ASSERT_EQ(names.from_guest(frame), Names::Fate::Answer);
  expect_right_sums(names.answer());
  std::string answer = payload(names.answer());
  EXPECT_EQ(answer.substr(0, 12), std::string("\x12\x34\x85\x80\0\1\0\1\0\0\0\0", 12));
  EXPECT_EQ(answer.substr(answer.size() - 6), std::string("\0\4\12\0\2\2", 6));

  Bytes frame6 = udp(plan.names6, 53, question("host.nacre.internal", 28));
  ASSERT_EQ(names.from_guest(frame6), Names::Fate::Answer);
  expect_right_sums(names.answer());
  answer = payload(names.answer());
  EXPECT_EQ(answer.substr(answer.size() - 16), std::string(plan.host6.begin(), plan.host6.end()));
}

TEST_F(NamesTest, OtherNamesOfOurDomainAreNotThereAndLeaveNobody) {
  Bytes frame = udp(plan.names, 53, question("secret.nacre.internal", 1));
  ASSERT_EQ(names.from_guest(frame), Names::Fate::Answer);
  expect_right_sums(names.answer());
  EXPECT_EQ(payload(names.answer()).substr(2, 6), std::string("\x85\x83\0\1\0\0", 6));
  // One that only looks like it goes to the server.
  frame = udp(plan.names, 53, question("host.notnacre.internal", 1));
  EXPECT_EQ(names.from_guest(frame), Names::Fate::Pass);
}

TEST(Names, WithoutAServerTheGuestIsToldAtOnce) {
  Names names(Plan{}, {});
  Bytes frame = udp(Plan{}.names, 53, question("example.org", 1));
  ASSERT_EQ(names.from_guest(frame), Names::Fate::Answer);
  EXPECT_EQ(payload(names.answer()).substr(2, 2), std::string("\x85\x82"));
}

TEST_F(NamesTest, TheHostsOwnAddressesAreOutOfReach) {
  const Address4 four[] = {{127, 0, 0, 1}, {127, 9, 9, 9}, {0, 0, 0, 0}};
  for (const Address4& address : four) {
    Bytes frame = udp(address, 80, "x");
    EXPECT_EQ(names.from_guest(frame), Names::Fate::Drop);
  }
  Address6 six[] = {{}, {}, {}};
  six[1][15] = 1;
  six[2] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  for (const Address6& address : six) {
    Bytes frame = udp(address, 80, "x");
    EXPECT_EQ(names.from_guest(frame), Names::Fate::Drop);
  }
  Bytes frame = udp(kServer, 80, "x");
  EXPECT_EQ(names.from_guest(frame), Names::Fate::Pass);
}

// Anything else that reaches the translation would make it look for a name server by itself.
TEST_F(NamesTest, OnlyQuestionsReachTheNameServer) {
  Bytes frame = udp(plan.names, 123, "time?");
  EXPECT_EQ(names.from_guest(frame), Names::Fate::Drop);
  frame = udp(plan.names, 53, question("example.org", 1));
  frame[20] = 0x20;  // a fragment
  EXPECT_EQ(names.from_guest(frame), Names::Fate::Drop);
}

}  // namespace
}  // namespace nacre::net
