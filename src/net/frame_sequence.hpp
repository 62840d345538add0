// Any frame with any header through all that looks into frames; shared by fuzz target and random test.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "irq/testing/byte_source.hpp"
#include "net/frame.hpp"
#include "net/intake.hpp"
#include "net/joiner.hpp"
#include "net/names.hpp"
#include "net/socket_limit.hpp"

namespace nacre::net {

inline void expect(bool holds) {
  if (!holds) std::abort();
}

// A frame with headers that are right, so that what is changed in it gets far.
inline std::vector<u8> likely_frame(nacre::testing::ByteSource& bytes) {
  const bool v6 = bytes.take<u8>() % 2 != 0, tcp = bytes.take<u8>() % 2 != 0;
  const Plan plan;
  std::vector<u8> frame(14 + (v6 ? 40 : 20) + (tcp ? 20 : 8));
  u8* const ip = &frame[14];
  u8* const transport = ip + (v6 ? 40 : 20);
  store16(&frame[12], v6 ? 0x86dd : 0x0800);
  ip[0] = v6 ? 0x60 : 0x45;
  ip[v6 ? 6 : 9] = tcp ? 6 : 17;
  if (v6) {
    std::memcpy(ip + 24, plan.names6.data(), 16);
  } else {
    std::memcpy(ip + 16, plan.names.data(), 4);
  }
  store16(transport + 2, 53);
  if (tcp) transport[12] = 0x50;
  const char question[] =
      "\0\7\1\0\0\1\0\0\0\0\0\0"
      "\4host\5nacre\10internal\0\0\1\0";
  if (!tcp) frame.insert(frame.end(), question, question + sizeof question);
  frame.resize(frame.size() + bytes.take<u16>() % 4000);
  return frame;
}

inline void frame_sequence(nacre::testing::ByteSource bytes) {
  Names names(Plan{}, NameServers::parse(
                          bytes.take<u8>() % 4 == 0 ? "" : "nameserver 192.0.2.1\nnameserver 2001:db8::1\n"));
  SocketLimit limit(bytes.take<u8>() % 8);
  while (!bytes.empty()) {
    std::vector<u8> frame = likely_frame(bytes);
    for (unsigned changes = bytes.take<u8>() % 6; changes != 0; --changes)
      frame[bytes.take<u16>() % (changes % 2 != 0 ? frame.size() : std::min<usize>(frame.size(), 96))] =
          bytes.take<u8>();
    if (bytes.take<u8>() % 8 == 0) frame.resize(bytes.take<u16>() % (frame.size() + 1));
    Header header;
    constexpr u8 kKinds[] = {Header::none, Header::tcp4, Header::tcp6, Header::tcp4 | Header::ecn};
    constexpr u16 kStarts[] = {34, 54};
    header.flags = bytes.take<u8>() % 4 == 0 ? 0 : Header::needs_csum;
    header.gso_type = bytes.pick(kKinds);
    header.gso_bytes = static_cast<u16>(1 + bytes.take<u16>() % 2000);
    header.csum_start = bytes.take<u8>() % 4 == 0 ? bytes.take<u16>() : bytes.pick(kStarts);
    header.csum_offset = bytes.take<u8>() % 4 == 0 ? bytes.take<u16>() : 16;

    static u8 segment[kMostPacket], joined[kMostPacket];
    Joiner joiner;
    const virtio::net::Offloads all = {.csum = true, .tso4 = true, .tso6 = true};
    std::copy(frame.begin(), frame.end(), joined);
    joiner.start(joined, frame.size(), all);
    static_cast<void>(joiner.append(frame));
    Header as_one;
    expect(joiner.finish(as_one) <= kMostPacket);
    usize parts = 0;
    Segmenter segmenter;
    if (segmenter.start(header, frame)) {
      usize count = 0;
      while (const usize length = segmenter.next(segment)) {
        expect(length <= frame.size() && ++count <= frame.size());
        // Joined again as far as it goes.
        if (parts == 0 || !joiner.append({segment, length})) {
          std::copy_n(segment, length, joined);
          joiner.start(joined, length, all);
          parts = 0;
        }
        ++parts;
        static_cast<void>(names.from_guest({segment, length}));
      }
      expect(count != 0 && !segmenter.active());
      Header one;
      const usize length = joiner.finish(one);
      expect(length <= kMostPacket && (parts > 1) == (one.gso_type != Header::none));
      // What was joined can be cut, into as many.
      if (parts > 1) {
        expect(segmenter.start(one, {joined, length}));
        while (segmenter.next(segment) != 0) --parts;
        expect(parts == 0);
      }
    }
    static Intake intake;
    std::copy(frame.begin(), frame.end(), intake.buffer());
    const u8 takes = bytes.take<u8>();
    const virtio::net::Offloads guest = {
        .csum = takes % 2 != 0, .tso4 = takes % 4 > 1, .tso6 = takes % 8 > 3};
    intake.accept(header, frame.size(), guest);
    for (usize count = 0; intake.waiting(); ++count) {
      Header got;
      const usize length = intake.next(segment, got);
      expect(length != 0 && length <= frame.size() && count <= frame.size());
      // What the guest is left to do lies in the packet, and is what it takes.
      if (got.flags == Header::needs_csum)
        expect(guest.csum && usize{got.csum_start} + got.csum_offset + 2 <= length);
      if (got.gso_type == Header::tcp4) expect(guest.tso4);
      if (got.gso_type == Header::tcp6) expect(guest.tso6);
    }
    static_cast<void>(finish_checksum(header, frame));
    if (bytes.take<u8>() % 4 == 0) names.to_guest(frame);
    const auto allowed = limit.from_guest(frame);
    if (allowed == SocketLimit::Fate::Pass && bytes.take<u8>() % 2 == 0) limit.opened(bytes.take<u8>() % 16);
    if (allowed == SocketLimit::Fate::Answer) {
      expect(limit.full() && limit.answer().size() >= 54 && limit.answer().size() <= 74);
    }
    limit.done();
    if (bytes.take<u8>() % 8 == 0) limit.closed(bytes.take<u8>() % 16);
    expect(limit.count() <= 16);
    const auto fate = names.from_guest(frame);
    if (fate == Names::Fate::Answer) expect(names.answer().size() <= 512 && names.answer().size() > 42);
    // Nothing that is passed on is for this host's own addresses.
    if (fate == Names::Fate::Pass && frame.size() >= 34 && load16(&frame[12]) == 0x0800)
      expect(frame[30] != 127 && frame[30] != 0);
  }
}

}  // namespace nacre::net
