// What the limit lets through, on frames made here. user_network_test.cpp has it with the real translation.
#include "net/socket_limit.hpp"

#include <gtest/gtest.h>

#include "net/testing.hpp"

namespace nacre::net {
namespace {

using testing::Bytes;
using testing::icmp_echo;
using testing::Peer;
using testing::tcp;
using testing::udp;
using Fate = SocketLimit::Fate;

constexpr u8 kSyn = 2, kAck = 16, kReset = 4;
constexpr Peer kGuest = {{10, 0, 2, 15}}, kOther = {{192, 0, 2, 7}};

// As the translation does it: what passes and begins a flow becomes a socket.
struct SocketLimitTest : ::testing::Test {
  SocketLimit limit{4};
  int next = 10;
  Fate begin(const Bytes& frame) {
    const Fate fate = limit.from_guest(frame);
    if (fate == Fate::Pass) limit.opened(next++);
    limit.done();
    return fate;
  }
  Fate look(const Bytes& frame) {
    const Fate fate = limit.from_guest(frame);
    limit.done();
    return fate;
  }
};

TEST_F(SocketLimitTest, ConnectionsBeyondAreRefusedAndRoomIsFoundAgain) {
  for (u16 port = 1; port <= 4; ++port) EXPECT_EQ(begin(tcp(kGuest, kOther, port, 80, kSyn)), Fate::Pass);
  EXPECT_TRUE(limit.full());
  EXPECT_EQ(begin(tcp(kGuest, kOther, 5, 80, kSyn)), Fate::Answer);
  // Those that stand go on: their data, and a beginning that is sent again.
  EXPECT_EQ(look(tcp(kGuest, kOther, 3, 80, kAck)), Fate::Pass);
  EXPECT_EQ(look(tcp(kGuest, kOther, 3, 80, kSyn)), Fate::Pass);
  EXPECT_EQ(look(tcp(kGuest, kOther, 3, 81, kSyn)), Fate::Answer);
  limit.closed(12);
  limit.closed(12);
  EXPECT_EQ(limit.count(), 3U);
  EXPECT_EQ(begin(tcp(kGuest, kOther, 5, 80, kSyn)), Fate::Pass);
  EXPECT_EQ(look(tcp(kGuest, kOther, 3, 80, kSyn)), Fate::Answer);
}

TEST_F(SocketLimitTest, ARefusalIsAResetThatTheGuestBelieves) {
  limit.set(0);
  Bytes frame = tcp(kGuest, kOther, 40000, 80, kSyn);
  store32(&frame[14 + 20 + 4], 0x01020304);
  ASSERT_EQ(look(frame), Fate::Answer);
  const auto answer = limit.answer();
  ASSERT_EQ(answer.size(), 54U);
  EXPECT_TRUE(std::equal(&answer[0], &answer[6], &frame[6]));
  EXPECT_TRUE(std::equal(&answer[26], &answer[30], kOther.address.begin()));
  EXPECT_TRUE(std::equal(&answer[30], &answer[34], kGuest.address.begin()));
  EXPECT_EQ(load16(&answer[34]), 80);
  EXPECT_EQ(load16(&answer[36]), 40000);
  EXPECT_EQ(load32(&answer[42]), 0x01020305U);
  EXPECT_EQ(answer[47], kReset | kAck);
  EXPECT_EQ(ones_sum(answer.subspan(14, 20)), 0xffff);
  u8 rest[12] = {0, 6, 0, 20};
  std::copy(&answer[26], &answer[34], rest + 4);
  EXPECT_EQ(ones_sum(answer.subspan(34, 20), ones_sum(rest)), 0xffff);
}

TEST_F(SocketLimitTest, DatagramsLeaveHalfToConnections) {
  EXPECT_EQ(begin(udp(kGuest, kOther, 1, 9)), Fate::Pass);
  EXPECT_EQ(begin(icmp_echo(kGuest, kOther)), Fate::Pass);
  EXPECT_EQ(begin(udp(kGuest, kOther, 2, 9)), Fate::Drop);
  EXPECT_EQ(begin(icmp_echo(kGuest, kOther)), Fate::Drop);
  EXPECT_EQ(look(udp(kGuest, kOther, 1, 77)), Fate::Pass);  // the same port of the guest's: the same socket
  EXPECT_EQ(begin(tcp(kGuest, kOther, 1, 80, kSyn)), Fate::Pass);
  limit.closed(11);
  EXPECT_EQ(begin(udp(kGuest, kOther, 2, 9)), Fate::Pass);
}

TEST_F(SocketLimitTest, FragmentsAndLeases) {
  limit.set(0);
  Bytes fragment = udp(kGuest, kOther, 1, 9);
  fragment[14 + 6] = 0x20;
  EXPECT_EQ(look(fragment), Fate::Drop);
  EXPECT_EQ(look(udp({{0, 0, 0, 0}}, {{255, 255, 255, 255}}, 68, 67)), Fate::Pass);
  EXPECT_EQ(look(udp(kGuest, kOther, 68, 67)), Fate::Drop);
  EXPECT_EQ(look(Bytes(60, 0)), Fate::Pass);  // no IP
  EXPECT_EQ(look(Bytes(14, 8)), Fate::Pass);
  EXPECT_EQ(look(Bytes{}), Fate::Pass);
}

// Cut anywhere, and with lengths that lie: nothing is read outside of the frame, and nothing begins.
TEST_F(SocketLimitTest, FramesThatAreCut) {
  limit.set(0);
  const Bytes whole = tcp(kGuest, kOther, 1, 80, kSyn);
  for (usize bytes = 0; bytes < whole.size(); ++bytes) {
    const Bytes cut(whole.begin(), whole.begin() + static_cast<long>(bytes));
    EXPECT_EQ(look(cut), Fate::Pass) << bytes;
  }
  for (const u8 first : {u8{0x40}, u8{0x44}, u8{0x4f}, u8{0xff}}) {
    Bytes lies = whole;
    lies[14] = first;
    static_cast<void>(look(lies));
  }
}

}  // namespace
}  // namespace nacre::net
