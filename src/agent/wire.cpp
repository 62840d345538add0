#include "agent/wire.hpp"

#include "agent/system.hpp"

namespace nacre::agent {
namespace {

bool wait(int file, short events, int milliseconds) {
  for (;;) {
    pollfd entry = {file, events, 0};
    const long found = sys::poll(&entry, 1, milliseconds);
    if (found != -EINTR) return found == 1;
  }
}

}  // namespace

bool Wire::write_all(const void* from, usize bytes) {
  const u8* at = static_cast<const u8*>(from);
  while (bytes != 0) {
    // SIGPIPE is ignored by all who have a Wire.
    const long written = sys::write(file_, at, bytes);
    if (written > 0) {
      at += written;
      bytes -= static_cast<usize>(written);
    } else if (written == -EAGAIN) {
      if (!wait(file_, POLLOUT, -1)) return false;
    } else if (written != -EINTR) {
      return false;
    }
  }
  return true;
}

bool Wire::read_all(void* to, usize bytes, int milliseconds) {
  u8* at = static_cast<u8*>(to);
  while (bytes != 0) {
    if (milliseconds >= 0 && !wait(file_, POLLIN, milliseconds)) return false;
    const long got = sys::read(file_, at, bytes);
    if (got > 0) {
      at += got;
      bytes -= static_cast<usize>(got);
    } else if (got == -EAGAIN) {
      if (!wait(file_, POLLIN, milliseconds)) return false;
    } else if (got != -EINTR) {
      return false;
    }
  }
  return true;
}

bool Wire::send(Frame type, Bytes first, Bytes second, Bytes third) {
  const usize bytes = first.count + second.count + third.count;
  if (bytes > kMostPayload) return false;
  const Header header = {static_cast<u32>(bytes), type, 0};
  // Small frames in one write: each is a packet.
  u8 small[512];
  if (sizeof header + bytes <= sizeof small) {
    u8* at = small;
    const Bytes parts[] = {{&header, sizeof header}, first, second, third};
    for (const Bytes& part : parts) {
      if (part.count != 0) __builtin_memcpy(at, part.data, part.count);
      at += part.count;
    }
    return write_all(small, static_cast<usize>(at - small));
  }
  return write_all(&header, sizeof header) && write_all(first.data, first.count) &&
         write_all(second.data, second.count) && write_all(third.data, third.count);
}

bool Wire::receive(int milliseconds) {
  if (!read_all(&header_, sizeof header_, milliseconds) || header_.bytes > kMostPayload ||
      header_.zero != 0) {
    header_ = {};
    return false;
  }
  return read_all(payload_, header_.bytes, milliseconds);
}

FrameParser::Step FrameParser::read(int file) {
  if (received_ == sizeof header_ + header_.bytes && received_ >= sizeof header_)
    received_ = 0;  // of the last call
  for (;;) {
    const bool in_header = received_ < sizeof header_;
    if (!in_header && received_ == sizeof header_ + header_.bytes) return Step::Frame;
    u8* to =
        in_header ? reinterpret_cast<u8*>(&header_) + received_ : payload_ + (received_ - sizeof header_);
    const usize wanted = (in_header ? 0 : header_.bytes) + sizeof header_ - received_;
    const long got = sys::read(file, to, wanted);
    if (got == -EAGAIN) return Step::Blocked;
    if (got == -EINTR) continue;
    if (got <= 0) return Step::Gone;
    received_ += static_cast<usize>(got);
    if (received_ == sizeof header_ && (header_.bytes > kMostPayload || header_.zero != 0)) return Step::Gone;
  }
}

}  // namespace nacre::agent
