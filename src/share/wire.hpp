// What the virtual machine's process and a share's server (process.hpp) say to each other: a message of a
// SEQPACKET socket each. Memory is named by its offset in the guest's RAM, which both have mapped; the server
// checks every piece, so that a monitor that a guest has taken over has no pointer to give it.
#pragma once

#include "base/types.hpp"

namespace nacre::share {

inline constexpr usize kMostPieces = 256;

struct Piece {
  u64 offset = 0;  // in guest RAM
  u32 bytes = 0, spare = 0;
};

struct Question {
  enum Kind : u32 { Request, Reset };
  u32 kind = Request;
  u16 tag = 0;  // comes back with the answer
  u16 spare = 0;
  u16 readable = 0, total = 0;  // pieces: those to read, then those to write
  u32 spare2 = 0;
  Piece pieces[kMostPieces] = {};

  [[nodiscard]] usize bytes() const { return __builtin_offsetof(Question, pieces) + total * sizeof(Piece); }
};
static_assert(__builtin_offsetof(Question, pieces) == 16);

// The first is `ready` of the whole server; then one for each request.
struct Answer {
  u32 tag = 0;
  u32 written = 0;  // bytes, from the first piece to write on
};

}  // namespace nacre::share
