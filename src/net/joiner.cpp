#include "net/joiner.hpp"

#include <cstring>

namespace nacre::net {
namespace {

constexpr u8 kTcp = 6, kPush = 0x08, kAck = 0x10;
constexpr usize kIp = kEthernetBytes;
constexpr usize kIp4Bytes = 20, kIp6Bytes = 40;

bool same(const u8* a, const u8* b, usize from, usize to) {
  return std::memcmp(a + from, b + from, to - from) == 0;
}

}  // namespace

Joiner::Segment Joiner::look_at(std::span<const u8> frame) {
  Segment segment;
  if (frame.size() < kIp + kIp4Bytes + 20) return segment;
  const u8* ip = frame.data() + kIp;
  const u16 type = load16(frame.data() + 12);
  usize bytes = 0;
  if (type == 0x0800) {
    // Options and fragments stay as they are.
    if (ip[0] != 0x45 || ip[9] != kTcp || (load16(ip + 6) & 0x3fff) != 0) return segment;
    segment.tcp = kIp + kIp4Bytes;
    bytes = load16(ip + 2);
  } else if (type == 0x86dd) {
    if (frame.size() < kIp + kIp6Bytes + 20 || ip[0] >> 4 != 6 || ip[6] != kTcp) return segment;
    segment.v6 = true;
    segment.tcp = kIp + kIp6Bytes;
    bytes = kIp6Bytes + load16(ip + 4);
  } else {
    return segment;
  }
  const u8* tcp = frame.data() + segment.tcp;
  segment.payload = segment.tcp + (tcp[12] >> 4) * 4U;
  segment.end = kIp + bytes;
  segment.last = (tcp[13] & kPush) != 0;
  // A frame may be longer than its packet, by padding; then it has little in it.
  segment.usable = segment.end == frame.size() && segment.payload >= segment.tcp + 20 &&
                   segment.payload < segment.end && (tcp[13] & ~kPush) == kAck;
  return segment;
}

void Joiner::start(u8* frame, usize bytes, const virtio::net::Offloads& guest) {
  frame_ = frame;
  bytes_ = bytes;
  joined_ = 1;
  open_ = false;
  if (!guest.csum || (!guest.tso4 && !guest.tso6)) return;
  first_ = look_at({frame, bytes});
  each_ = first_.end - first_.payload;
  open_ = first_.usable && !first_.last && (first_.v6 ? guest.tso6 : guest.tso4);
}

bool Joiner::continues(std::span<const u8> next, const Segment& segment) const {
  if (!segment.usable || segment.v6 != first_.v6 || segment.payload != first_.payload) return false;
  const usize more = segment.end - segment.payload;
  if (more > each_ || bytes_ + more > kIp + 65535) return false;
  const u8* at = next.data();
  // All that is the same in segments of one packet: not lengths, numbers and checksums.
  const bool ip_same = first_.v6 ? same(frame_, at, 0, kIp + 4) && same(frame_, at, kIp + 6, first_.tcp)
                                 : same(frame_, at, 0, kIp + 2) && same(frame_, at, kIp + 6, kIp + 10) &&
                                       same(frame_, at, kIp + 12, first_.tcp);
  const usize tcp = first_.tcp;
  const bool tcp_same = same(frame_, at, tcp, tcp + 4) && same(frame_, at, tcp + 8, tcp + 13) &&
                        same(frame_, at, tcp + 14, tcp + 16) && same(frame_, at, tcp + 18, first_.payload);
  const u32 expected = load32(frame_ + tcp + 4) + static_cast<u32>(bytes_ - first_.payload);
  return ip_same && tcp_same && load32(at + tcp + 4) == expected;
}

bool Joiner::append(std::span<const u8> next) {
  if (!open_) return false;
  const Segment segment = look_at(next);
  if (!continues(next, segment)) return false;
  const usize more = segment.end - segment.payload;
  std::memcpy(frame_ + bytes_, next.data() + segment.payload, more);
  bytes_ += more;
  ++joined_;
  if (segment.last) frame_[first_.tcp + 13] |= kPush;
  open_ = !segment.last && more == each_;
  return true;
}

usize Joiner::finish(Header& header) {
  if (joined_ < 2) return bytes_;
  u8* const ip = frame_ + kIp;
  const usize tcp_bytes = bytes_ - first_.tcp;
  u8 rest[8] = {};
  store32(rest, static_cast<u32>(tcp_bytes));
  rest[7] = kTcp;
  if (first_.v6) {
    store16(ip + 4, static_cast<u32>(tcp_bytes));
  } else {
    store16(ip + 2, static_cast<u32>(bytes_ - kIp));
    store16(ip + 10, 0);
    store16(ip + 10, static_cast<u16>(~ones_sum({ip, kIp4Bytes})));
  }
  // Of the checksum only the part that is not in the packet; the segments' own were not looked at, they were
  // made in this process.
  const std::span<const u8> addresses =
      first_.v6 ? std::span<const u8>{ip + 8, 32} : std::span<const u8>{ip + 12, 8};
  store16(frame_ + first_.tcp + 16, ones_sum(rest, ones_sum(addresses)));
  header.flags = Header::needs_csum;
  header.gso_type = first_.v6 ? Header::tcp6 : Header::tcp4;
  header.header_bytes = static_cast<u16>(first_.payload);
  header.gso_bytes = static_cast<u16>(each_);
  header.csum_start = static_cast<u16>(first_.tcp);
  header.csum_offset = 16;
  return bytes_;
}

}  // namespace nacre::net
