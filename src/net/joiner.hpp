// Joiner: TCP segments of one flow that follow each other, made into one large packet for a guest that takes
// such: what Segmenter does, backwards. The translation makes segments of the MTU; each costs the guest's
// kernel as much as one of 64 KiB. RFC 9293, 791, 8200. One thread.
#pragma once

#include <span>

#include "net/frame.hpp"
#include "virtio/net/device.hpp"

namespace nacre::net {

class Joiner {
 public:
  // A frame of `bytes` stands at `frame`, which has room for kMostPacket.
  void start(u8* frame, usize bytes, const virtio::net::Offloads& guest);
  // False: `next` does not go with what is there, and stays a packet of its own.
  bool append(std::span<const u8> next);
  // How long the frame is now. `header` says of a joined one how to cut it; of another it is left alone.
  usize finish(Header& header);

 private:
  // Offsets, and whether it can be joined: TCP with data, and nothing in its headers that others would lack.
  struct Segment {
    bool usable = false, v6 = false, last = false;  // last: pushed, so nothing follows
    usize tcp = 0, payload = 0, end = 0;
  };
  static Segment look_at(std::span<const u8> frame);
  [[nodiscard]] bool continues(std::span<const u8> next, const Segment& segment) const;

  u8* frame_ = nullptr;
  usize bytes_ = 0;
  Segment first_;
  usize each_ = 0;  // bytes of payload in each
  unsigned joined_ = 0;
  bool open_ = false;  // more may follow
};

}  // namespace nacre::net
