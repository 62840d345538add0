// The fixed routines of the code cache: the way in, the ways out, and the calls of C++ helpers from
// translated code. Emitted once, at the cache's start.
#pragma once

#include "engine/soft/emitter.hpp"
#include "engine/soft/translator.hpp"

namespace nacre::soft {

// What a helper tells its stub. The values are compared in emitted code.
enum class HelperResult : u32 {
  Again = 0,  // go back to where the call came from
  Past = 1,     // … 5 bytes further: the interpreter has done the instruction, or a group must do without its check
  Bounced = 2,  // … 10 bytes further: the operand is in Context::bounce
  Jump = 3,     // on to Context::enter_target
  Leave = 4,    // back to the dispatcher; Context::exit_kind says why
};

// Called with the vCPU's state complete in Context but for vector state.
using FillHelper = HelperResult (*)(Context*, u64 linear, u64 note);  // note: InterpretNote
using InterpretHelper = HelperResult (*)(Context*, u64 note);

// What emitted code tells a helper about the instruction.
struct InterpretNote {
  static constexpr u32 length_mask = 0xff;     // bytes; 0: always leave
  static constexpr u32 needs_vector = 1 << 8;  // it reads or writes vector or x87 state
  static constexpr u32 bounce = 1 << 9;        // of a fill: the operand may be put in Context::bounce
  static constexpr u32 shadowed = 1 << 10;     // behind STI: nothing may come before it
  static constexpr u32 string = 1 << 11;       // MOVS or STOS of 64-bit addresses, DS or no source
  static constexpr unsigned window_shift = 16;  // of a fill: bytes accessed
  // Of a string instruction: the element's size as a shift, whether it is MOVS, whether it is repeated.
  static constexpr unsigned element_shift = 16;
  static constexpr u32 moves = 1 << 18;
  static constexpr u32 repeated = 1 << 19;
};

// What fill_group is told.
struct GroupNote {
  static constexpr u32 write = 1 << 0;
  static constexpr u32 stack = 1 << 1;
  static constexpr unsigned window_shift = 16;
};

// A place in a stub where the guest's registers are loaded, on the way into translated code. Offsets in the code
// cache. Nothing before it needs stopping: `check` looks at Context::exit_request.
struct WayIn {
  usize check = 0;   // from here …
  usize loaded = 0;  // … to here only registers change, which were saved: it can be done again
  usize end = 0;
};

struct Entries {
  void (*enter)(Context*) = nullptr;  // runs from Context::enter_target until something leaves
  u64 async = 0;                      // state.rip is set: leave (jumped to by the signal handler)
  u64 fault = 0;                      // the same, and the interpreter must run the instruction
  usize bytes = 0;                    // how much of the cache the stubs take
  static constexpr usize kMostWaysIn = 9;
  WayIn ways_in[kMostWaysIn];
  usize ways_in_count = 0;
  usize quick_begin = 0, quick_end = 0;  // stubs that go back to translated code by themselves
};

Entries emit_stubs(Emitter& emitter, Stubs& stubs, FillHelper fill_read, FillHelper fill_write,
                   FillHelper fill_group, InterpretHelper interpret);

}  // namespace nacre::soft
