// Context: what translated code sees. One per vCPU. Host RSP points into it while translated code runs:
// guest RSP lives elsewhere, a stack is not needed there, and loads and stores off RSP are the cheapest
// the host has (measured: docs/soft-engine.md). Everything here has a fixed offset that code was emitted
// against. Layout and use: docs/soft-engine.md. Owned by the vCPU's thread; `exit_request` is also set by
// signal handlers.
#pragma once

#include <atomic>
#include <cstddef>

#include "cpu/state.hpp"

namespace nacre::soft {

// A view is a privilege under which memory is looked at. Each has its own software TLB, jump cache and
// shadow return stack, so that no check of privilege is left in translated code.
enum class View : u8 { User, Kernel, KernelUserAccess };  // the last: CPL < 3 with RFLAGS.AC set
inline constexpr unsigned kViews = 3;

inline constexpr unsigned kTlbEntries = 2048;           // a power of two; direct-mapped by page number
inline constexpr unsigned kJumpCacheEntries = 1 << 16;  // indexed by the low 16 bits of the target
inline constexpr unsigned kTlbEntryShift = 5;
inline constexpr u64 kTlbIndexMask = u64{kTlbEntries - 1} << kPageShift;

// One page. A tag is the page's linear address when that kind of access may go straight to
// `host_page`, else a page that cannot have this index. offset = linear - tag; it is a hit when
// offset <= 4096 - access size (unsigned), which a page-crossing access fails too.
struct TlbEntry {
  u64 read_tag;
  u64 write_tag;
  u64 host_page;
  u64 addend;  // host_page - linear page
};
static_assert(sizeof(TlbEntry) == 1 << kTlbEntryShift);

// A page that can never be looked up at this index.
constexpr u64 empty_tag(usize index) {
  return (u64{index} ^ 1) << kPageShift;
}

inline constexpr u64 kMostFuel = 1024;  // CountedVcpu: blocks at a time

// A group of accesses shares one check; its addend is kept here for the later ones.
inline constexpr unsigned kGroupSlots = 16;

// An access that crosses into another page is done on `bytes`, with the page boundary in the middle, so that the
// operand is as (mis)aligned as the guest's. What was written is then put where it belongs.
struct Bounce {
  static constexpr unsigned kBoundary = 64;
  u64 at = 0;  // host address of the operand in `bytes`
  u64 first = 0, first_bytes = 0;
  u64 second = 0, second_bytes = 0;  // host addresses and sizes of its two parts
  u64 spill[6] = {};  // registers of the stubs that do this
  alignas(64) u8 bytes[2 * kBoundary] = {};
};

struct alignas(64) Context {
  // Scratch of emitted sequences, in reach of an 8-bit displacement below RSP.
  u64 spill_rcx = 0;
  u64 spill_value = 0;
  u64 tlb_index_mask = kTlbIndexMask;
  u64 page_mask = ~u64{kPageSize - 1};
  u64 host_rsp = 0;               // the C++ stack while translated code runs
  u64 enter_target = 0;           // where enter() jumps
  u64 exit_info = 0;              // which exit was taken, or the target of an indirect jump
  u32 exit_kind = 0;              // ExitKind
  std::atomic<u32> exit_request = 0;  // leave translated code at the next chance
  // RSP points to `state` while translated code runs; a call pushes its return address here.
  u64 call_stack[8] = {};
  cpu::State state;

  u64 all_but_if = ~u64{x86::Rflags::IF};
  u64 arithmetic_flags = x86::Rflags::arithmetic;
  u64 system_flags = ~u64{x86::Rflags::arithmetic | x86::Rflags::RF | x86::Rflags::VM};
  // Bit strings: which word of them (in units of a word), and which bit of the word. [0] 32, [1] 64 bits.
  u64 bit_word[2] = {~u64{31}, ~u64{63}};
  u64 bit_in_word[2] = {31, 63};
  const std::atomic<bool>* interrupt_hint = nullptr;  // an interrupt may be pending
  // soft.hpp: CountedVcpu. Blocks that may still be entered; whether none has been yet; whether to stop all the same.
  u64 fuel = 0, fresh = 0, enough = 0;
  u32 mode = 0;            // Mode bits of the code that runs
  u32 inside = 0;          // translated code runs, or is about to: written by it, read by other processors' threads
  void* engine = nullptr;  // the SoftVcpu, for helpers
  // The page RSP was last seen in, as a TLB entry that needs no index. host_page is not used.
  alignas(64) TlbEntry stack_page[kViews];
  u64 group_addend[kGroupSlots] = {};
  Bounce bounce;
  alignas(64) TlbEntry tlb[kViews][kTlbEntries];
  alignas(64) u64 jump_cache[kViews][kJumpCacheEntries];
  u64 entered[kMostFuel + 1];  // CountedVcpu: where the block begins that left so much fuel
};
inline constexpr usize kContextBase = 128;
static_assert(offsetof(Context, state) == kContextBase);

// Why translated code came back to the dispatcher.
enum class ExitKind : u32 {
  Link,       // a direct jump whose target is not linked yet: exit_info is the exit's number
  Indirect,   // an indirect jump that missed the jump cache: exit_info is the target RIP
  Lookup,     // state.rip says where to go on (after an instruction done by the interpreter)
  Interpret,  // a host fault inside an instruction: the interpreter must execute the one at state.rip
  Async,      // stopped by kick(): state is complete at state.rip
};

}  // namespace nacre::soft
