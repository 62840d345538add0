// Reading and writing the bytes of a request wherever the guest has cut it into segments. Devices must not
// assume any framing (virtio 1.2, 2.7.4). Freestanding; on the thread that runs the device's queues.
#pragma once

#include "base/copy.hpp"
#include "virtio/queue.hpp"

namespace nacre::virtio {

// A place within a row of segments.
class Cursor {
 public:
  Cursor(const Segment* segments, unsigned count) : at_(segments), end_(segments + count) {}

  // The next piece in one segment, at most `most` bytes; 0 bytes at the end.
  Segment take(u64 most) {
    if (at_ == end_ || most == 0) return {};
    const u32 left = at_->bytes - used_;
    const u32 bytes = most < left ? static_cast<u32>(most) : left;
    const Segment piece = {at_->host + used_, at_->guest + used_, bytes};
    used_ += bytes;
    if (used_ == at_->bytes) {
      ++at_;
      used_ = 0;
    }
    return piece;
  }

 private:
  const Segment* at_;
  const Segment* end_;
  u32 used_ = 0;
};

// What the driver wrote for the device.
class ChainReader {
 public:
  explicit ChainReader(const Chain& chain)
      : cursor_(chain.segments, chain.readable), left_(chain.readable_bytes) {}

  [[nodiscard]] u64 left() const { return left_; }
  // Up to `bytes` bytes; how many there were.
  u64 read(void* to, u64 bytes) {
    u8* target = static_cast<u8*>(to);
    u64 done = 0;
    for (Segment piece = cursor_.take(bytes); piece.bytes != 0; piece = cursor_.take(bytes - done)) {
      copy_bytes(target + done, piece.host, piece.bytes);
      done += piece.bytes;
    }
    left_ -= done;
    return done;
  }
  // False: the request is too short for it.
  template <typename T>
  bool read(T& value) {
    return left_ >= sizeof value && read(&value, sizeof value) == sizeof value;
  }
  // A piece in place, for backends.
  Segment take(u64 most) {
    const Segment piece = cursor_.take(most);
    left_ -= piece.bytes;
    return piece;
  }

 private:
  Cursor cursor_;
  u64 left_;
};

// What the device writes for the driver.
class ChainWriter {
 public:
  ChainWriter(const Chain& chain, GuestMemory& memory)
      : cursor_(chain.segments + chain.readable, chain.total - chain.readable),
        memory_(memory),
        left_(chain.writable_bytes) {}

  [[nodiscard]] u64 left() const { return left_; }
  [[nodiscard]] u32 written() const { return static_cast<u32>(written_); }
  // Up to `bytes` bytes; how many there was room for.
  u64 write(const void* from, u64 bytes) {
    const u8* source = static_cast<const u8*>(from);
    u64 done = 0;
    while (done < bytes) {
      const Segment piece = take(bytes - done);
      if (piece.bytes == 0) break;
      copy_bytes(piece.host, source + done, piece.bytes);
      wrote(piece);
      done += piece.bytes;
    }
    return done;
  }
  template <typename T>
  bool write(const T& value) {
    return left_ >= sizeof value && write(&value, sizeof value) == sizeof value;
  }
  // A piece in place, for backends; wrote() after they have filled it.
  Segment take(u64 most) {
    const Segment piece = cursor_.take(most);
    left_ -= piece.bytes;
    written_ += piece.bytes;
    return piece;
  }
  void wrote(const Segment& piece) { memory_.written(piece.guest, piece.bytes); }

 private:
  Cursor cursor_;
  GuestMemory& memory_;
  u64 left_;
  u64 written_ = 0;
};

}  // namespace nacre::virtio
