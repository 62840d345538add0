// Translated blocks and the tables that find, link and unlink them. docs/soft-engine.md.
#pragma once

#include "base/types.hpp"

namespace nacre::soft {

using BlockIndex = u32;
using ExitIndex = u32;
inline constexpr u32 kNone = ~u32{0};

// What takes away how a page of code is mapped: an address-space switch; a flush of everything; neither, as
// long as the page tables still say so when they are looked at after that flush (the kernel's own large
// pages, which stand for as long as it runs).
enum class Lasting : u8 { Space, Global, Steady };
inline constexpr usize kLastings = 3;

// The mode bits that change what guest bytes mean or may do. Part of a block's key.
struct Mode {
  static constexpr u32 view_mask = 3;  // View
  static constexpr u32 x87 = 1 << 2;   // CR0.EM and TS clear
  static constexpr u32 sse = 1 << 3;   // … and CR4.OSFXSR
  static constexpr u32 avx = 1 << 4;   // CR0.TS clear, CR4.OSXSAVE and XCR0.AVX
  static constexpr u32 avx512 = 1 << 5;
  static constexpr u32 tsc = 1 << 6;    // RDTSC is allowed, and the host's counter is the platform's
  static constexpr u32 hint = 1 << 7;   // Context::interrupt_hint is there
  static constexpr u32 tscp = 1 << 10;  // so is RDTSCP
  static constexpr u32 code32 = 1 << 11;  // 32-bit code, all but FS and GS flat: from 0 to 4 GiB
  static constexpr u64 code32_end = u64{1} << 32;
  // Of a block's key alone, never of Context::mode: no access shares a check; one instruction that spans two
  // pages, the key's physical address being that of the second.
  static constexpr u32 ungrouped = 1 << 8;
  static constexpr u32 spanning = 1 << 9;
  static constexpr u32 key_only = ungrouped | spanning;
};

// Where one guest instruction stands in a block's code. Host offsets are from the block's first byte.
// The instruction may be started again from any host instruction in [start, commit], except where a guest
// register is borrowed: in [fragile_begin, fragile_end), and, when it accesses memory twice (PUSH and CALL of
// a memory operand), in the earlier range of the same kind.
struct InstructionInfo {
  u16 guest_offset = 0;
  u16 start = 0;
  u16 commit = 0;
  u16 fragile_begin = 0;
  u16 fragile_end = 0;
  u16 earlier_begin = 0;
  u16 earlier_end = 0;
  bool shadowed = false;  // behind STI: no interrupt before it

  // A register is borrowed from the next host instruction on.
  void borrow_from(u16 offset) {
    earlier_begin = fragile_begin;
    earlier_end = fragile_end;
    fragile_begin = offset;
  }
  constexpr bool operator==(const InstructionInfo&) const = default;
  [[nodiscard]] bool borrowed_at(usize within) const {
    return (within > fragile_begin && within < fragile_end) ||
           (within > earlier_begin && within < earlier_end);
  }
};

// What a way out of a block leads to: a block; one of Mode::ungrouped; the instruction at the block's own
// address, which spans pages, as one of Mode::spanning.
enum class Lead : u8 { Block, Twin, Tail };

// A direct way out of a block. Unlinked it leads to its stub; linked, to another block's code.
struct BlockExit {
  u64 target = 0;  // linear address; of a tail the second page's
  BlockIndex from = kNone;
  BlockIndex to = kNone;
  ExitIndex next_incoming = kNone;
  u32 site = 0;          // code offset of a rel32, or a cell's number
  u32 stub = 0;          // code offset
  bool is_cell = false;  // target on another page: goes through a link cell
  Lead lead = Lead::Block;
  u8 listed = 0;  // bit of a Lasting: it is in that list of live cells
};

// One line of the host's cache: finding a block should not cost two.
struct alignas(64) Block {
  u64 linear = 0;
  u64 physical = 0;
  u32 mode = 0;
  u32 code = 0;               // offset in the cache
  u32 indirect_entry = 0;     // offset of the code that checks R14 first; 0: none yet
  u32 first_instruction = 0;  // in the InstructionInfo arena
  u16 hot_bytes = 0;
  u16 total_bytes = 0;
  u16 instructions = 0;
  u16 guest_bytes = 0;
  BlockIndex page_next = kNone;
  ExitIndex incoming = kNone;
  u8 denied = 0;  // how often a group's page was not all that the group wanted
  bool valid = false;
};
static_assert(sizeof(Block) == 64);

}  // namespace nacre::soft
