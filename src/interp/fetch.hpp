// Fetching and decoding, with a cache of decoded instructions. The cache is keyed by the bytes
// themselves: decoding is a function of them and the code size alone, so nothing can make an entry
// stale, self-modifying code and other processors included. Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

// What a lookup compares comes first, so that a hit touches few cache lines.
struct alignas(64) DecodedInstruction {
  u64 bytes[2] = {};          // the first `length` of 16, the rest zero
  u32 key = 0;                // length and code size; 0: nothing here
  u32 checks = 0;             // FetchCheck bits, for what depends on the mode
  Handler handler = nullptr;  // null: undefined, or unknown to us
  x86::Instruction instruction;
};

struct FetchCheck {
  static constexpr u32 undefined = 1 << 0;       // #UD: invalid, LOCK where it may not be, no such feature
  static constexpr u32 protected_only = 1 << 1;  // #UD in real and V86 mode
  static constexpr u32 privileged = 1 << 2;      // #GP(0) unless CPL 0
  static constexpr u32 too_long = 1 << 3;        // #GP(0)
  static constexpr u32 unknown = 1 << 4;         // #UD, and the host is told
  static constexpr u32 orders_memory = 1 << 6;   // MFENCE, or serializing
  static constexpr u32 changes_mode = 1 << 5;  // what Core::refresh_mode() caches may be different afterwards
};

class Fetcher {
 public:
  // The instruction at CS:RIP, or null with the fault recorded. Valid until the next call.
  const DecodedInstruction* fetch(Core& core);

 private:
  static constexpr usize kEntries = 4096;

  const DecodedInstruction* decode(Core& core, DecodedInstruction& entry, u64 linear, u8* bytes,
                                   unsigned available, x86::CodeSize code_size);

  DecodedInstruction cache_[kEntries];
};

}  // namespace nacre::interp
