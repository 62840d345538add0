#include "net/frame.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "net/frame_sequence.hpp"
#include "net/packet_queue.hpp"

namespace nacre::net {
namespace {

using Bytes = std::vector<u8>;

// Ethernet, IPv4 or IPv6, TCP with 12 bytes of options, `payload` bytes that count up.
Bytes tcp_frame(bool v6, usize payload) {
  const usize ip = 14, tcp = ip + (v6 ? 40 : 20), data = tcp + 32;
  Bytes frame(data + payload);
  store16(&frame[12], v6 ? 0x86dd : 0x0800);
  if (v6) {
    frame[ip] = 0x60;
    store16(&frame[ip + 4], static_cast<u32>(32 + payload));
    frame[ip + 6] = 6;
    for (unsigned i = 0; i < 32; ++i) frame[ip + 8 + i] = static_cast<u8>(0x20 + i);
  } else {
    frame[ip] = 0x45;
    store16(&frame[ip + 2], static_cast<u32>(frame.size() - ip));
    store16(&frame[ip + 4], 0xfffe);
    frame[ip + 9] = 6;
    for (unsigned i = 0; i < 8; ++i) frame[ip + 12 + i] = static_cast<u8>(10 + i);
  }
  store32(&frame[tcp + 4], 0xfffffff0);
  frame[tcp + 12] = 0x80;
  frame[tcp + 13] = 0x99;  // CWR, ACK, PSH, FIN
  for (usize i = 0; i < payload; ++i) frame[data + i] = static_cast<u8>(i * 7);
  return frame;
}

Header large(bool v6, u16 segment) {
  Header header;
  header.flags = Header::needs_csum;
  header.gso_type = v6 ? Header::tcp6 : Header::tcp4;
  header.gso_bytes = segment;
  header.csum_start = v6 ? 54 : 34;
  header.csum_offset = 16;
  return header;
}

// RFC 1071, 3: the example there.
TEST(OnesSum, IsThatOfTheStandard) {
  const u8 bytes[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
  EXPECT_EQ(ones_sum(bytes), 0xddf2);
  EXPECT_EQ(ones_sum({bytes, 3}), 0xf201);
  EXPECT_EQ(ones_sum({bytes + 4, 4}, ones_sum({bytes, 4})), 0xddf2);
}

TEST(OnesSum, AnyLengthIsTheSumOfWords) {
  Bytes bytes(70'000);
  for (usize i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<u8>(255 - i % 7);
  for (const usize length : {usize{0}, usize{1}, usize{7}, usize{8}, usize{9}, usize{1461}, usize{70'000}}) {
    u32 sum = 0;
    for (usize i = 0; i < length; ++i) {
      sum += i % 2 == 0 ? u32{bytes[i]} << 8 : bytes[i];
      sum = (sum & 0xffff) + (sum >> 16);
    }
    EXPECT_EQ(ones_sum({bytes.data(), length}), sum) << length;
  }
}

TEST(FinishChecksum, MakesThePacketSumUp) {
  Bytes frame = tcp_frame(false, 99);
  // The driver leaves the sum of the pseudo-header in the field. Virtio 1.2, 5.1.6.2.1.
  u8 pseudo[12] = {};
  std::memcpy(pseudo, &frame[26], 8);
  pseudo[9] = 6;
  store16(pseudo + 10, static_cast<u32>(frame.size() - 34));
  store16(&frame[50], ones_sum(pseudo));
  ASSERT_TRUE(finish_checksum(large(false, 0), frame));
  EXPECT_EQ(ones_sum({&frame[34], frame.size() - 34}, ones_sum(pseudo)), 0xffff);
}

TEST(FinishChecksum, OutsideOfTheFrameIsRefused) {
  Bytes frame(60);
  Header header = large(false, 0);
  header.csum_start = 59;
  header.csum_offset = 0;
  EXPECT_FALSE(finish_checksum(header, frame));
  header.csum_start = 65535;
  header.csum_offset = 65535;
  EXPECT_FALSE(finish_checksum(header, frame));
  header.csum_start = 58;
  header.csum_offset = 0;
  EXPECT_TRUE(finish_checksum(header, frame));
}

class SegmenterTest : public ::testing::TestWithParam<bool> {};

TEST_P(SegmenterTest, SegmentsAreWholePacketsThatMakeUpTheLarge) {
  const bool v6 = GetParam();
  const Bytes frame = tcp_frame(v6, 3000);
  const usize ip = 14, tcp = v6 ? 54 : 34, data = tcp + 32;
  Segmenter segmenter;
  ASSERT_TRUE(segmenter.start(large(v6, 1400), frame));
  Bytes joined;
  u8 segment[kMostPacket];
  for (unsigned i = 0; i < 3; ++i) {
    const usize bytes = segmenter.next(segment);
    ASSERT_EQ(bytes, data + (i < 2 ? 1400U : 200U));
    if (v6) {
      EXPECT_EQ(load16(segment + ip + 4), bytes - tcp);
    } else {
      EXPECT_EQ(load16(segment + ip + 2), bytes - ip);
      EXPECT_EQ(load16(segment + ip + 4), static_cast<u16>(0xfffe + i));
      EXPECT_EQ(ones_sum({segment + ip, 20}), 0xffff);
    }
    EXPECT_EQ(load32(segment + tcp + 4), 0xfffffff0 + i * 1400);
    EXPECT_EQ(segment[tcp + 13], (i == 0 ? 0x80 : 0) | 0x10 | (i == 2 ? 0x09 : 0));
    u8 rest[4] = {0, 6};
    store16(rest + 2, static_cast<u32>(bytes - tcp));
    const std::span<const u8> addresses(segment + ip + (v6 ? 8 : 12), v6 ? 32 : 8);
    EXPECT_EQ(ones_sum({segment + tcp, bytes - tcp}, ones_sum(rest, ones_sum(addresses))), 0xffff);
    joined.insert(joined.end(), segment + data, segment + bytes);
  }
  EXPECT_EQ(segmenter.next(segment), 0U);
  EXPECT_TRUE(std::equal(joined.begin(), joined.end(), frame.begin() + static_cast<long>(data), frame.end()));
}

TEST_P(SegmenterTest, WhatIsNoTcpPacketIsRefused) {
  const bool v6 = GetParam();
  const Bytes good = tcp_frame(v6, 3000);
  const Header header = large(v6, 1400);
  Segmenter segmenter;
  const auto refuses = [&](const Header& h, const Bytes& frame) { return !segmenter.start(h, frame); };
  EXPECT_FALSE(refuses(header, good));
  for (usize bytes = 0; bytes < good.size() - 3000 + 1; ++bytes)
    EXPECT_TRUE(refuses(header, Bytes(good.begin(), good.begin() + static_cast<long>(bytes)))) << bytes;
  EXPECT_TRUE(refuses(large(!v6, 1400), good));
  EXPECT_TRUE(refuses(large(v6, 0), good));
  Header far = header;
  far.csum_start = 65000;
  EXPECT_TRUE(refuses(far, good));
  Bytes bad = good;
  bad[v6 ? 66 : 46] = 0x40;  // a TCP header of 16 bytes
  EXPECT_TRUE(refuses(header, bad));
  bad = good;
  bad[14] = 0;
  EXPECT_TRUE(refuses(header, bad));
}

INSTANTIATE_TEST_SUITE_P(Versions, SegmenterTest, ::testing::Bool(), [](const auto& version) {
  return version.param ? std::string("IPv6") : std::string("IPv4");
});

TEST(PacketQueue, GivesPacketsBackInOrderAroundItsEnd) {
  PacketQueue queue(1000);
  u8 next_in = 0, next_out = 0;
  for (unsigned round = 0; round < 300; ++round) {
    while (queue.put(Bytes(1 + next_in * 13 % 200, next_in))) ++next_in;
    EXPECT_LE(queue.used(), 1000U);
    for (unsigned i = 0; i < 1 + round % 4 && !queue.empty(); ++i) {
      const auto packet = queue.front();
      ASSERT_EQ(packet.size(), 1U + next_out * 13 % 200);
      ASSERT_EQ(packet.front(), next_out);
      ASSERT_EQ(packet.back(), next_out);
      queue.pop();
      ++next_out;
    }
  }
  while (!queue.empty()) queue.pop(), ++next_out;
  EXPECT_EQ(next_in, next_out);
  EXPECT_EQ(queue.used(), 0U);
  EXPECT_FALSE(queue.put(Bytes(1000)));
}

TEST(Frames, SurviveRandomBytes) {
  nacre::testing::run_random_sequences(frame_sequence, 2000);
}

}  // namespace
}  // namespace nacre::net
