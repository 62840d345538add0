// Frames for tests, with their checksums.
#pragma once

#include <algorithm>
#include <vector>

#include "net/frame.hpp"
#include "net/names.hpp"

namespace nacre::net::testing {

using Bytes = std::vector<u8>;

struct Peer {
  Address4 address;
  std::array<u8, 6> mac = {0x02, 0, 0, 0, 0, 1};
};

inline Bytes ip4(const Peer& from, const Peer& to, u8 protocol, const Bytes& payload) {
  Bytes frame(14 + 20);
  std::copy(to.mac.begin(), to.mac.end(), frame.begin());
  std::copy(from.mac.begin(), from.mac.end(), frame.begin() + 6);
  store16(&frame[12], 0x0800);
  u8* const ip = &frame[14];
  ip[0] = 0x45;
  store16(ip + 2, static_cast<u32>(20 + payload.size()));
  ip[8] = 64;
  ip[9] = protocol;
  std::copy(from.address.begin(), from.address.end(), ip + 12);
  std::copy(to.address.begin(), to.address.end(), ip + 16);
  store16(ip + 10, static_cast<u16>(~ones_sum({ip, 20})));
  frame.insert(frame.end(), payload.begin(), payload.end());
  return frame;
}

inline Bytes tcp(const Peer& from, const Peer& to, u16 source, u16 target, u8 flags, u32 sequence = 1,
                 u32 acknowledged = 0) {
  Bytes packet(20);
  store16(&packet[0], source);
  store16(&packet[2], target);
  store32(&packet[4], sequence);
  store32(&packet[8], acknowledged);
  packet[12] = 5 << 4;
  packet[13] = flags;
  store16(&packet[14], 65535);
  Bytes addresses(from.address.begin(), from.address.end());
  addresses.insert(addresses.end(), to.address.begin(), to.address.end());
  store16(&packet[16], transport_checksum(addresses, 6, packet));
  return ip4(from, to, 6, packet);
}

inline Bytes udp(const Peer& from, const Peer& to, u16 source, u16 target, usize bytes = 8) {
  Bytes packet(8 + bytes);
  store16(&packet[0], source);
  store16(&packet[2], target);
  store16(&packet[4], static_cast<u32>(packet.size()));
  return ip4(from, to, 17, packet);
}

inline Bytes icmp_echo(const Peer& from, const Peer& to) {
  Bytes packet(8);
  packet[0] = 8;
  store16(&packet[2], static_cast<u16>(~ones_sum(packet)));
  return ip4(from, to, 1, packet);
}

}  // namespace nacre::net::testing
