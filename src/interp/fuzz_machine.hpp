// What fuzz targets that execute guest code share: from the fuzzer's bytes to a machine in some mode, with
// some registers, tables and code.
//
// Of an input, byte 0 is the mode (choose_mode); when the next 58 are zero, registers are zero, RSP is
// Machine::kStack, tables are whole, and the code begins at byte 59. The seeds are made so.
#pragma once

#include <algorithm>
#include <cstring>

#include "interp/test_machine.hpp"

namespace nacre::interp {

// What the fuzzer's bytes are used up for, zero when there are no more.
class Input {
 public:
  Input(const u8* data, usize size) : data_(data), left_(size) {}

  template <typename T>
  T take() {
    T value{};
    const usize bytes = std::min(sizeof value, left_);
    if (bytes != 0) std::memcpy(&value, data_, bytes);
    data_ += bytes;
    left_ -= bytes;
    return value;
  }
  [[nodiscard]] usize left() const { return left_; }

 private:
  const u8* data_;
  usize left_;
};

inline void choose_mode(Machine& m, u8 choice) {
  switch (choice % 8) {
    case 0:
      m.real_mode();
      break;
    case 1:
      m.protected_mode(0);
      break;
    case 2:
      m.protected_mode(3);
      break;
    case 3:
      m.long_mode(0);
      break;
    case 4:
      m.long_mode(3);
      break;
    case 5:  // compatibility mode
      m.long_mode(3);
      m.state.segment[x86::CS] = m.descriptor(Machine::kUserCode32);
      break;
    case 6:  // 16-bit code in protected mode
      m.protected_mode(0);
      m.state.segment[x86::CS].attributes &= static_cast<u16>(~cpu::SegmentAttributes::DB);
      break;
    default:  // V86
      m.protected_mode(3);
      m.state.rflags |= x86::Rflags::VM;
      for (cpu::Segment& segment : m.state.segment) segment = {0, 0xf3, 0xffff, 0};
      break;
  }
}

// Registers that point somewhere useful, somewhere odd, or anywhere.
inline u64 choose_value(Input& input) {
  const u8 kind = input.take<u8>();
  if (kind < 0x80) return u64{input.take<u8>()} << 8 | kind;
  if (kind < 0xa0) return Machine::kMemory - (kind & 0x1f);
  if (kind < 0xc0) return ~u64{0} - (kind & 0x1f);
  return input.take<u64>();
}

inline void choose_state(Machine& m, Input& input) {
  for (u64& gpr : m.state.gpr) gpr = choose_value(input);
  m.state.gpr[x86::RSP] = Machine::kStack + input.take<u8>();
  m.state.rflags ^= input.take<u32>() & (x86::Rflags::arithmetic | x86::Rflags::IOPL | x86::Rflags::TF |
                                         x86::Rflags::NT | x86::Rflags::AC | x86::Rflags::DF);
  m.state.cr0 ^= input.take<u32>() & (x86::Cr0::TS | x86::Cr0::EM | x86::Cr0::AM | x86::Cr0::WP);
  m.state.cr4 ^= input.take<u32>() & (x86::Cr4::OSXSAVE | x86::Cr4::OSFXSR | x86::Cr4::SMAP | x86::Cr4::PSE);
  m.state.dr7 = input.take<u32>();
  for (u64& address : m.state.dr) address = choose_value(input);
  m.state.xcr0 = 7;
  // A few bytes anywhere in tables and code: descriptors, gates, page-table entries.
  for (unsigned patches = input.take<u8>() % 16; patches > 0; --patches) {
    const u64 where = input.take<u32>() % (Machine::kMemory - 8);
    const u64 table = patches % 2 == 0 ? Machine::kGdt + where % 0x100 : where;
    m.poke<u64>(table, input.take<u64>());
  }
}

// Every exception leads to a HLT.
inline void make_gates(Machine& m) {
  for (unsigned gate = 0; gate < 64; ++gate) {
    if (m.state.long_mode_active()) {
      m.gate64(gate, 14, gate & 3, gate & 1);
    } else {
      m.gate32(gate, 15, gate & 3);
    }
  }
}

// A machine about to execute the fuzzer's bytes.
inline void choose_machine(Machine& m, Input& input) {
  choose_mode(m, input.take<u8>());
  make_gates(m);
  choose_state(m, input);
  for (u64 at = Machine::kCode; input.left() > 0 && at < Machine::kStack; ++at)
    m.poke<u8>(at, input.take<u8>());
}

}  // namespace nacre::interp
