// The I/O port space: 64 Ki byte-addressed ports, claimed in ranges by devices. SDM vol. 1, chapter 19.
// Ranges are claimed before the first guest instruction; after that lookup takes no lock. Calls into a
// device are made on the caller's thread: whoever shares a device between threads locks around it.
// Freestanding.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::memory {

// A device's ports. Offsets are from the claimed range's first port; size is 1, 2 or 4 bytes, never
// more than the `widest` of the claim and never past its end.
class PortHandler {
 public:
  virtual u32 read(u16 offset, unsigned size) = 0;
  virtual void write(u16 offset, unsigned size, u32 value) = 0;

 protected:
  ~PortHandler() = default;
};

class PortSpace {
 public:
  static constexpr usize kMaxRanges = 64;

  // Gives `count` ports from `first` on to a device. `widest` (1, 2 or 4 bytes) is the largest access it
  // understands; wider ones reach it as several, lowest port first, as a bus bridge would split them.
  // Ranges must not overlap or pass port 0xffff; a violation is an Error naming both.
  Status claim(u16 first, u32 count, PortHandler& handler, unsigned widest = 1);

  // size is 1, 2 or 4 bytes. Unclaimed ports read as all ones and swallow writes, also within an access
  // that is partly claimed; past port 0xffff nothing is claimed.
  [[nodiscard]] u32 read(u16 port, unsigned size) const;
  void write(u16 port, unsigned size, u32 value) const;

 private:
  struct Range {
    u16 first = 0;
    u32 count = 0;
    unsigned widest = 1;
    PortHandler* handler = nullptr;
  };
  struct Piece {  // what of an access goes out at once
    const Range* range = nullptr;
    unsigned size = 1;
  };

  [[nodiscard]] const Range* find(u32 port) const;
  [[nodiscard]] Piece piece_at(u32 port, unsigned left) const;

  Range ranges_[kMaxRanges];  // sorted by first
  usize count_ = 0;
};

}  // namespace nacre::memory
