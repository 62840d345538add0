// One differential case: code at a fixed linear address, the state before it, and what came of it. The same
// linear addresses exist in the child process that runs it natively and in the guest that an engine runs.
//
//   kCode .. +4 KiB     code, read and execute; filled with int3, so every straight path ends in #BP
//   kData .. +8 KiB     data, read and write
//   +8 .. +12 KiB       data, read only
//
// The pages around both are unmapped. Hosted; tests only.
#pragma once

#include <vector>

#include "base/types.hpp"
#include "cpu/state.hpp"
#include "x86/instruction.hpp"

namespace nacre::conformance {

inline constexpr u64 kCode = 0x10000000;  // below 2 GiB, so that 32-bit addresses reach it too
inline constexpr u64 kCodeBytes = kPageSize;
inline constexpr u64 kData = 0x10010000;
inline constexpr u64 kWritableBytes = 2 * kPageSize;
inline constexpr u64 kDataBytes = 3 * kPageSize;
inline constexpr u64 kGsBase = 0x1000;
inline constexpr unsigned kMaxCodeBytes = 240;
// Selectors, as a Linux process has them; the first is the one of 32-bit programs.
inline constexpr u16 kUserCode32 = 0x23, kUserData = 0x2b, kUserCode = 0x33;

struct Registers {
  u64 gpr[16] = {};
  u64 rip = 0;
  u64 rflags = 0;
  alignas(64) u8 xsave[cpu::kXsaveBytes] = {};  // as State::xsave
};

struct MemoryPatch {
  u16 offset = 0;  // from kData
  u64 value = 0;
};

struct Case {
  Registers before;  // rip: kCode + code_offset
  u64 memory_seed = 0;
  u16 code_offset = 0;
  u8 code_bytes = 0;
  u8 patch_count = 0;
  x86::CodeSize code_size = x86::CodeSize::Bits64;  // Bits32: compatibility mode
  bool supervisor = false;                          // CPL 0: engines only
  MemoryPatch patches[4];
  u8 code[kMaxCodeBytes] = {};

  void patch(u64 linear, u64 value) {
    if (patch_count < 4 && linear >= kData && linear + 8 <= kData + kDataBytes) {
      patches[patch_count++] = {static_cast<u16>(linear - kData), value};
    }
  }
};

// What ended the case; always something, #BP (of an int3) when nothing else.
struct Outcome {
  static constexpr u8 kHung = 0xff, kSystemCall = 0xfe, kNone = 0xfd;

  Registers after;
  u8 vector = kNone;
  u32 error_code = 0;
  u64 cr2 = 0;  // of #PF
  alignas(64) u8 data[kDataBytes] = {};
};

// The contents of the data pages before a case.
void fill_data(const Case& test, u8* data);
// … and of the code page.
void fill_code(const Case& test, u8* code);

}  // namespace nacre::conformance
