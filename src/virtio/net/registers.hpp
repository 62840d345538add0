// The network device's features, configuration space, packet header and control commands. Virtio 1.2, 5.1.
// Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::net {

struct NetFeature {  // 5.1.3
  static constexpr u64 csum = 1 << 0, guest_csum = 1 << 1, ctrl_guest_offloads = 1 << 2, mtu = 1 << 3,
                       mac = 1 << 5, guest_tso4 = 1 << 7, guest_tso6 = 1 << 8, host_tso4 = 1 << 11,
                       host_tso6 = 1 << 12, mergeable = 1 << 15, status = 1 << 16, ctrl_vq = 1 << 17,
                       guest_announce = 1 << 21, multi_queue = 1 << 22, ctrl_mac_addr = 1 << 23;
  // What the guest may switch at run time: 5.1.6.5.6.
  static constexpr u64 guest_offloads = guest_csum | guest_tso4 | guest_tso6;
};

struct Config {  // 5.1.4
  u8 mac[6] = {};
  u16 status = 0, pairs = 0, mtu = 0;
};
static_assert(sizeof(Config) == 12);

struct LinkStatus {
  static constexpr u16 up = 1, announce = 2;
};

// Before each packet, both ways. 5.1.6.
struct Header {
  static constexpr u8 needs_csum = 1, data_valid = 2;            // flags
  static constexpr u8 none = 0, tcp4 = 1, tcp6 = 4, ecn = 0x80;  // gso_type
  u8 flags = 0, gso_type = none;
  u16 header_bytes = 0, gso_bytes = 0, csum_start = 0, csum_offset = 0;
  u16 buffers = 0;  // receive: over how many it is spread
};
static_assert(sizeof(Header) == 12);

struct Control {  // class << 8 | command: 5.1.6.5
  static constexpr u16 mac_addr_set = 0x0101, announce_ack = 0x0300, pairs_set = 0x0400,
                       offloads_set = 0x0500;
  static constexpr u8 ok = 0, error = 1;
};

// The largest packet with segmentation left to the other side, and an Ethernet header with a VLAN tag.
inline constexpr usize kMostPacket = 65535 + 18;

}  // namespace nacre::virtio::net
