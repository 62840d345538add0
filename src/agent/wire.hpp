// Wire: frames over a stream. Both sides; freestanding. What the other side sends is bounded here and nowhere
// trusted.
#pragma once

#include "agent/protocol.hpp"

namespace nacre::agent {

struct Bytes {
  const void* data = nullptr;
  usize count = 0;
};

class Wire {
 public:
  explicit Wire(int file) : file_(file) {}
  [[nodiscard]] int file() const { return file_; }

  // Waits until all is written. False: the other side is gone.
  bool send(Frame type, Bytes first = {}, Bytes second = {}, Bytes third = {});
  template <typename T>
  bool send_value(Frame type, const T& value, Bytes rest = {}) {
    return send(type, {&value, sizeof value}, rest);
  }
  // Waits for a frame. False: the other side is gone, has broken the rules, or took longer than that.
  bool receive(int milliseconds = -1);
  [[nodiscard]] Frame type() const { return header_.type; }
  [[nodiscard]] const u8* payload() const { return payload_; }
  [[nodiscard]] u32 bytes() const { return header_.bytes; }

 private:
  bool write_all(const void* from, usize bytes);
  bool read_all(void* to, usize bytes, int milliseconds);

  int file_;
  Header header_;
  u8 payload_[kMostPayload];
};

// Frames as they come, for who has more to wait for than one stream.
class FrameParser {
 public:
  enum class Step : u8 { Blocked, Frame, Gone };
  // Reads on from a file that does not block. Frame: one is whole, and stands until the next call. Gone: the
  // end, or not a frame.
  Step read(int file);
  [[nodiscard]] Frame type() const { return header_.type; }
  [[nodiscard]] const u8* payload() const { return payload_; }
  [[nodiscard]] u32 bytes() const { return header_.bytes; }

 private:
  Header header_;
  usize received_ = 0;  // of header and payload
  u8 payload_[kMostPayload];
};

// Takes a payload apart. What is not there is zero or empty, and ok() false.
class Payload {
 public:
  explicit Payload(const Wire& wire) : Payload(wire.payload(), wire.bytes()) {}
  explicit Payload(const FrameParser& parser) : Payload(parser.payload(), parser.bytes()) {}
  Payload(const u8* at, usize bytes) : at_(at), left_(bytes) {}
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] usize left() const { return left_; }
  template <typename T>
  T value() {
    T result = {};
    if (left_ < sizeof result) {
      ok_ = false;
      left_ = 0;
      return result;
    }
    __builtin_memcpy(&result, at_, sizeof result);
    at_ += sizeof result;
    left_ -= sizeof result;
    return result;
  }
  // A text ended by a zero byte, in place.
  const char* text() {
    for (usize i = 0; i < left_; ++i) {
      if (at_[i] != 0) continue;
      const char* result = reinterpret_cast<const char*>(at_);
      at_ += i + 1;
      left_ -= i + 1;
      return result;
    }
    ok_ = false;
    left_ = 0;
    return "";
  }

 private:
  const u8* at_;
  usize left_;
  bool ok_ = true;
};

}  // namespace nacre::agent
