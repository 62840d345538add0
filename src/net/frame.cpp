#include "net/frame.hpp"

#include <cstring>

namespace nacre::net {
namespace {

constexpr u8 kTcp = 6;
constexpr u8 kFin = 0x01, kPush = 0x08, kCongestionReduced = 0x80;

}  // namespace

usize gather(const virtio::Segment* pieces, unsigned count, u8* to) {
  usize done = 0;
  for (unsigned i = 0; i < count; ++i) {
    const usize room = kMostPacket - done;
    const usize bytes = pieces[i].bytes < room ? pieces[i].bytes : room;
    std::memcpy(to + done, pieces[i].host, bytes);
    done += bytes;
  }
  return done;
}

// In the host's byte order, 8 bytes at a time: the sum does not mind, if the result is turned round (RFC
// 1071, 2).
u16 ones_sum(std::span<const u8> bytes, u16 before) {
  u64 low = 0, high = 0;
  const u8* at = bytes.data();
  usize left = bytes.size();
  for (; left >= 8; left -= 8, at += 8) {
    u64 word = 0;
    std::memcpy(&word, at, 8);
    low += word & 0xffffffff;
    high += word >> 32;
  }
  u64 last = 0;
  if (left != 0) std::memcpy(&last, at, left);
  u64 sum = low + high + (last & 0xffffffff) + (last >> 32);
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  const u32 total = u32{__builtin_bswap16(static_cast<u16>(sum))} + before;
  return static_cast<u16>((total & 0xffff) + (total >> 16));
}

u16 transport_checksum(std::span<const u8> addresses, u8 protocol, std::span<const u8> packet) {
  u8 rest[8] = {};
  store32(rest, static_cast<u32>(packet.size()));
  rest[7] = protocol;
  const u16 sum = static_cast<u16>(~ones_sum(packet, ones_sum(rest, ones_sum(addresses))));
  return sum == 0 ? u16{0xffff} : sum;  // to UDP 0 means that there is none
}

bool finish_checksum(const Header& header, std::span<u8> frame) {
  if ((header.flags & Header::needs_csum) == 0) return true;
  const usize field = usize{header.csum_start} + header.csum_offset;
  if (header.csum_start > frame.size() || field + 2 > frame.size()) return false;
  const u16 sum = static_cast<u16>(~ones_sum(frame.subspan(header.csum_start)));
  store16(frame.data() + field, sum == 0 ? 0xffff : sum);
  return true;
}

bool Segmenter::start(const Header& header, std::span<const u8> frame) {
  done_ = 0;
  frame_ = {};
  const u8 kind = header.gso_type & static_cast<u8>(~Header::ecn);
  v6_ = kind == Header::tcp6;
  if ((kind != Header::tcp4 && !v6_) || header.gso_bytes == 0 || frame.size() > kMostPacket) return false;
  ip_ = kEthernetBytes;
  if (frame.size() < ip_ + 4) return false;
  if (load16(frame.data() + 12) == 0x8100) ip_ += 4;  // a VLAN tag
  if (frame.size() < ip_ + 20 || load16(frame.data() + ip_ - 2) != (v6_ ? 0x86dd : 0x0800)) return false;
  const u8* ip = frame.data() + ip_;
  tcp_ = header.csum_start;
  if (v6_) {
    if (ip[0] >> 4 != 6 || tcp_ < ip_ + 40) return false;  // extension headers may lie between
  } else {
    if (ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || tcp_ != ip_ + (ip[0] & 15) * 4U || ip[9] != kTcp) return false;
  }
  if (frame.size() < tcp_ + 20) return false;
  payload_ = tcp_ + (frame[tcp_ + 12] >> 4) * 4U;
  if (payload_ < tcp_ + 20 || payload_ >= frame.size()) return false;
  frame_ = frame;
  segment_ = header.gso_bytes;
  done_ = payload_;
  count_ = 0;
  return true;
}

usize Segmenter::next(u8* to) {
  if (!active()) return 0;
  const usize left = frame_.size() - done_;
  const usize bytes = left < segment_ ? left : segment_;
  const bool first = done_ == payload_, last = bytes == left;
  std::memcpy(to, frame_.data(), payload_);
  std::memcpy(to + payload_, frame_.data() + done_, bytes);
  const usize total = payload_ + bytes;

  u8* ip = to + ip_;
  if (v6_) {
    store16(ip + 4, static_cast<u32>(total - ip_ - 40));
  } else {
    store16(ip + 2, static_cast<u32>(total - ip_));
    store16(ip + 4, load16(ip + 4) + u32{count_});
    store16(ip + 10, 0);
    store16(ip + 10, static_cast<u16>(~ones_sum({ip, tcp_ - ip_})));
  }
  u8* tcp = to + tcp_;
  store32(tcp + 4, load32(tcp + 4) + static_cast<u32>(done_ - payload_));
  if (!first) tcp[13] &= static_cast<u8>(~kCongestionReduced);
  if (!last) tcp[13] &= static_cast<u8>(~(kFin | kPush));
  store16(tcp + 16, 0);
  const std::span<const u8> addresses =
      v6_ ? std::span<const u8>{ip + 8, 32} : std::span<const u8>{ip + 12, 8};
  store16(tcp + 16, transport_checksum(addresses, kTcp, {tcp, total - tcp_}));

  done_ += bytes;
  ++count_;
  return total;
}

}  // namespace nacre::net
