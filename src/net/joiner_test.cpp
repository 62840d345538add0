#include "net/joiner.hpp"

#include <gtest/gtest.h>

#include "net/testing.hpp"

namespace nacre::net {
namespace {

using testing::Bytes;

constexpr virtio::net::Offloads kAll = {.csum = true, .tso4 = true, .tso6 = true};
constexpr u8 kFin = 1, kPush = 8, kAck = 16;

// A large packet as Segmenter takes it: every byte of its payload tells where it is.
Bytes large(bool v6, usize payload, u8 flags = kAck) {
  const usize ip = v6 ? 40 : 20;
  Bytes frame(14 + ip + 20 + payload);
  for (usize i = 0; i < 12; ++i) frame[i] = static_cast<u8>(2 * i);
  store16(&frame[12], v6 ? 0x86dd : 0x0800);
  if (v6) {
    frame[14] = 0x60;
    frame[20] = 6;
    frame[21] = 64;
    for (usize i = 0; i < 32; ++i) frame[22 + i] = static_cast<u8>(i);
    store16(&frame[18], static_cast<u32>(20 + payload));
  } else {
    frame[14] = 0x45;
    frame[22] = 64;
    frame[23] = 6;
    store32(&frame[26], 0x0a000202);
    store32(&frame[30], 0x0a00020f);
    store16(&frame[16], static_cast<u32>(40 + payload));
    store16(&frame[24], static_cast<u16>(~ones_sum({&frame[14], 20})));
  }
  u8* const tcp = &frame[14 + ip];
  store16(tcp, 80);
  store16(tcp + 2, 40000);
  store32(tcp + 4, 0xfffff000);  // the numbers pass zero on the way
  tcp[12] = 5 << 4;
  tcp[13] = flags;
  store16(tcp + 14, 5000);
  for (usize i = 0; i < payload; ++i) tcp[20 + i] = static_cast<u8>(i * 7 + (i >> 8));
  return frame;
}

std::vector<Bytes> cut(const Bytes& frame, bool v6, u16 each) {
  Header header;
  header.flags = Header::needs_csum;
  header.gso_type = v6 ? Header::tcp6 : Header::tcp4;
  header.gso_bytes = each;
  header.csum_start = v6 ? 54 : 34;
  header.csum_offset = 16;
  Segmenter segmenter;
  EXPECT_TRUE(segmenter.start(header, frame));
  std::vector<Bytes> segments;
  Bytes to(kMostPacket);
  while (const usize bytes = segmenter.next(to.data()))
    segments.emplace_back(to.begin(), to.begin() + static_cast<long>(bytes));
  return segments;
}

// What comes of these in order: packets and their headers.
std::vector<std::pair<Header, Bytes>> join(const std::vector<Bytes>& segments,
                                           const virtio::net::Offloads& guest = kAll) {
  std::vector<std::pair<Header, Bytes>> packets;
  Joiner joiner;
  for (usize i = 0; i < segments.size();) {
    Bytes frame(kMostPacket);
    std::copy(segments[i].begin(), segments[i].end(), frame.begin());
    joiner.start(frame.data(), segments[i].size(), guest);
    while (++i < segments.size() && joiner.append(segments[i])) {
    }
    Header header;
    frame.resize(joiner.finish(header));
    packets.emplace_back(header, frame);
  }
  return packets;
}

TEST(Joiner, MakesAgainWhatWasCut) {
  for (const bool v6 : {false, true}) {
    const Bytes whole = large(v6, 30000, kAck | kPush);
    const auto packets = join(cut(whole, v6, 1440));
    ASSERT_EQ(packets.size(), 1U);
    auto [header, bytes] = packets[0];
    EXPECT_EQ(header.gso_type, v6 ? Header::tcp6 : Header::tcp4);
    EXPECT_EQ(header.gso_bytes, 1440);
    ASSERT_EQ(bytes.size(), whole.size());
    const usize tcp = header.csum_start;
    ASSERT_TRUE(finish_checksum(header, bytes));
    const std::span<const u8> addresses = {&bytes[v6 ? 22U : 26U], v6 ? 32U : 8U};
    u8 rest[8] = {0, 0, 0, 0, 0, 0, 0, 6};
    store32(rest, static_cast<u32>(bytes.size() - tcp));
    EXPECT_EQ(ones_sum({&bytes[tcp], bytes.size() - tcp}, ones_sum(rest, ones_sum(addresses))), 0xffff);
    store16(&bytes[tcp + 16], 0);
    EXPECT_EQ(bytes, whole);
    if (!v6) {
      EXPECT_EQ(ones_sum({&bytes[14], 20}), 0xffff);
    }
  }
}

TEST(Joiner, OnlyAsMuchAsAPacketHolds) {
  auto segments = cut(large(false, 60000), false, 1440);
  const auto more = cut(large(false, 20000), false, 1440);
  for (Bytes segment : more) {
    store32(&segment[38], load32(&segment[38]) + 60000 / 1440 * 1440 + 960);
    segments.push_back(segment);
  }
  // The 60000 end in a short segment: so one packet, and then the rest in another.
  auto packets = join(segments);
  ASSERT_EQ(packets.size(), 2U);
  segments = cut(large(false, 65000), false, 1300);
  Bytes next = segments.back();
  store32(&next[38], load32(&next[38]) + 1300);
  segments.push_back(next);
  packets = join(segments);
  ASSERT_EQ(packets.size(), 2U);
  EXPECT_LE(packets[0].second.size(), 14U + 65535);
}

TEST(Joiner, WhatDiffersStaysApart) {
  const auto segments = cut(large(false, 4 * 1000), false, 1000);
  ASSERT_EQ(join(segments).size(), 1U);
  const struct {
    usize at;
    u8 flip;
  } changes[] = {{3, 1},  {9, 1},  {15, 4}, {20, 0x40}, {22, 1},    {29, 1}, {33, 1},
                 {35, 1}, {37, 1}, {41, 1}, {45, 1},    {47, kFin}, {47, 2}, {49, 1}};
  for (const auto& change : changes) {
    auto changed = segments;
    changed[2][change.at] ^= change.flip;
    EXPECT_GE(join(changed).size(), 2U) << change.at;
  }
  // Missing, doubled, in another order.
  EXPECT_EQ(join({segments[0], segments[2], segments[3]}).size(), 2U);
  EXPECT_EQ(join({segments[0], segments[0], segments[1]}).size(), 2U);
  EXPECT_EQ(join({segments[1], segments[0]}).size(), 2U);
}

TEST(Joiner, NotForGuestsThatDoNotTakeIt) {
  const auto segments = cut(large(false, 4000), false, 1000);
  EXPECT_EQ(join(segments, {}).size(), 4U);
  EXPECT_EQ(join(segments, {.csum = true, .tso4 = false, .tso6 = true}).size(), 4U);
  const auto packets = join({segments[0]});
  EXPECT_EQ(packets[0].first.flags, 0);
  EXPECT_EQ(packets[0].second, segments[0]);
}

}  // namespace
}  // namespace nacre::net
