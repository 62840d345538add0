// LZ4, legacy frame format: a magic number, then blocks of at most 8 MiB, each preceded by its compressed
// length. LZ4 Frame Format 1.6.4, "Legacy frame"; LZ4 Block Format. Freestanding; any thread.
#include "board/boot/elf.hpp"
#include "board/boot/linux_payload.hpp"

namespace nacre::board::boot {
namespace {

constexpr u32 kMagic = 0x184c2102;
constexpr usize kMinMatch = 4, kRunOut = 15;
constexpr usize kWord = 8;

// One block. Copies go word by word where there is room to overshoot, else byte by byte.
class Block {
 public:
  Block(Bytes from, std::span<u8> to, usize written)
      : from_(from.data()),
        from_end_(from.data() + from.size()),
        start_(to.data()),
        to_(to.data() + written),
        to_end_(to.data() + to.size()) {}

  // The position in `to` afterwards; false when the block is malformed.
  bool unpack() {
    while (from_ != from_end_) {
      const u8 token = *from_++;
      usize literals = token >> 4;
      if (literals == kRunOut && !extend(literals)) return false;
      if (!copy_literals(literals)) return false;
      if (from_ == from_end_) return true;  // the last sequence has no match
      usize match = token & 15;
      if (from_end_ - from_ < 2) return false;
      const usize distance = from_[0] | usize{from_[1]} << 8;
      from_ += 2;
      if (match == kRunOut && !extend(match)) return false;
      if (!copy_match(distance, match + kMinMatch)) return false;
    }
    return false;  // a block ends within a sequence
  }
  [[nodiscard]] usize written() const { return static_cast<usize>(to_ - start_); }

 private:
  [[nodiscard]] usize input_left() const { return static_cast<usize>(from_end_ - from_); }
  [[nodiscard]] usize output_left() const { return static_cast<usize>(to_end_ - to_); }

  bool extend(usize& length) {
    u8 byte = 0;
    do {
      if (from_ == from_end_ || length > (usize{1} << 40)) return false;
      byte = *from_++;
      length += byte;
    } while (byte == 255);
    return true;
  }

  static void copy_word(u8* to, const u8* from) { __builtin_memcpy(to, from, kWord); }

  bool copy_literals(usize length) {
    if (length > input_left() || length > output_left()) return false;
    if (input_left() - length >= kWord && output_left() - length >= kWord) {
      for (usize i = 0; i < length; i += kWord) copy_word(to_ + i, from_ + i);
    } else {
      for (usize i = 0; i < length; ++i) to_[i] = from_[i];
    }
    to_ += length;
    from_ += length;
    return true;
  }

  // The match may overlap what it produces: then the bytes repeat.
  bool copy_match(usize distance, usize length) {
    if (distance == 0 || distance > written() || length > output_left()) return false;
    const u8* source = to_ - distance;
    if (distance >= kWord && output_left() - length >= kWord) {
      for (usize i = 0; i < length; i += kWord) copy_word(to_ + i, source + i);
    } else {
      for (usize i = 0; i < length; ++i) to_[i] = source[i];
    }
    to_ += length;
    return true;
  }

  const u8* from_;
  const u8* from_end_;
  u8* start_;
  u8* to_;
  u8* to_end_;
};

}  // namespace

bool unpack_lz4(Bytes stream, std::span<u8> to) {
  u32 word = 0;
  if (!read_at(stream, 0, word) || word != kMagic) return false;
  usize at = sizeof word;
  usize written = 0;
  while (read_at(stream, at, word)) {
    at += sizeof word;
    if (word == kMagic) continue;  // another frame follows directly
    if (word > stream.size() - at) return false;
    Block block(stream.subspan(at, word), to, written);
    if (!block.unpack()) return false;
    written = block.written();
    at += word;
  }
  return at == stream.size() && written == to.size();
}

}  // namespace nacre::board::boot
