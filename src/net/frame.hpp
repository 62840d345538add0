// What a guest may leave to the network (virtio 1.2, 5.1.6.2), done in software: the checksum of a packet,
// and one large TCP packet cut into segments. The bytes are a guest's, or another machine's: anything may be
// in them. RFC 1071 (checksum), 791, 8200, 9293.
#pragma once

#include <span>

#include "virtio/net/registers.hpp"
#include "virtio/queue.hpp"

namespace nacre::net {

using virtio::net::Header;
using virtio::net::kMostPacket;

inline constexpr usize kEthernetBytes = 14;

inline u16 load16(const u8* at) {
  return static_cast<u16>(at[0] << 8 | at[1]);
}
inline u32 load32(const u8* at) {
  return u32{load16(at)} << 16 | load16(at + 2);
}
inline void store16(u8* at, u32 value) {
  at[0] = static_cast<u8>(value >> 8);
  at[1] = static_cast<u8>(value);
}
inline void store32(u8* at, u32 value) {
  store16(at, value >> 16);
  store16(at + 2, value);
}

// The pieces' bytes at `to`, which has room for kMostPacket; how many there were. More is not copied.
usize gather(const virtio::Segment* pieces, unsigned count, u8* to);

// The sum of 16-bit words in one's complement, of `bytes` after `before`; not complemented.
u16 ones_sum(std::span<const u8> bytes, u16 before = 0);
// The checksum of a UDP or TCP packet that stands whole at `packet`, its checksum field zero or to be counted
// in. `addresses`: source and destination as they stand in the IP header.
u16 transport_checksum(std::span<const u8> addresses, u8 protocol, std::span<const u8> packet);

// Fills in the checksum that `header` says is to be done. False: it lies outside of the frame.
[[nodiscard]] bool finish_checksum(const Header& header, std::span<u8> frame);

// Cuts a frame whose header has a segment size. The frame must stay while it is cut.
class Segmenter {
 public:
  // False: it is not a TCP packet of the kind that the header tells of.
  [[nodiscard]] bool start(const Header& header, std::span<const u8> frame);
  // The next segment, finished, at `to` (room for kMostPacket); 0: there is none.
  [[nodiscard]] usize next(u8* to);
  [[nodiscard]] bool active() const { return done_ < frame_.size(); }

 private:
  std::span<const u8> frame_;
  usize ip_ = 0, tcp_ = 0, payload_ = 0;  // offsets in the frame
  usize segment_ = 0;                     // bytes of payload in each
  usize done_ = 0;                        // offset of what has not been sent
  bool v6_ = false;
  u16 count_ = 0;
};

}  // namespace nacre::net
