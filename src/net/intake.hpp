// Intake: packets as another guest or the host's kernel has left them, made into what this guest has agreed
// to take: checksums and segments that it does not are done here. Nothing in them is trusted. One thread.
#pragma once

#include "net/frame.hpp"
#include "virtio/net/device.hpp"

namespace nacre::net {

class Intake {
 public:
  // Room for kMostPacket, to be filled and accepted while nothing is waiting().
  [[nodiscard]] u8* buffer() { return frame_; }
  void accept(const Header& header, usize bytes, const virtio::net::Offloads& guest);
  [[nodiscard]] bool waiting() const { return whole_ != 0 || segmenter_.active(); }
  // The next packet at `to`; 0: none is waiting.
  usize next(u8* to, Header& header);

 private:
  Header header_;
  usize whole_ = 0;  // bytes of a packet that goes on in one piece
  Segmenter segmenter_;
  u8 frame_[kMostPacket];
};

}  // namespace nacre::net
