// Power-on and INIT state. SDM vol. 3, table 9-1. The floating-point reset values are those of
// SDM vol. 1, 13.6 ("initial configuration").
#include "cpu/state.hpp"

namespace nacre::cpu {
namespace {

constexpr u16 kData = 0x93;  // present, writable data, accessed
constexpr u16 kCode = 0x9b;  // present, readable code, accessed
constexpr u16 kLdt = 0x82;
constexpr u16 kBusyTss = 0x8b;

void reset_segments(State& state) {
  for (Segment& segment : state.segment) segment = {0, kData, 0xffff, 0};
  // The first fetch comes from the top of the 32-bit physical space.
  state.segment[x86::CS] = {0xf000, kCode, 0xffff, 0xffff0000};
  state.ldtr = {0, kLdt, 0xffff, 0};
  state.tr = {0, kBusyTss, 0xffff, 0};
  state.gdtr = {0, 0xffff};
  state.idtr = {0, 0xffff};
}

void reset_xsave(State& state) {
  for (u8& byte : state.xsave) byte = 0;
  state.xsave[0] = 0x40;   // FCW 0x0040 after reset (FNINIT makes it 0x037f)
  state.xsave[4] = 0;      // abridged tag word: all registers empty
  state.xsave[24] = 0x80;  // MXCSR 0x1f80
  state.xsave[25] = 0x1f;
  state.xsave[512] = 3;  // XSTATE_BV: x87 and SSE are in the image
}

}  // namespace

void reset(State& state, bool init) {
  const State old = state;
  state = State{};
  state.gpr[x86::RDX] = 0x600;  // family 6, as far as software looks here at all
  reset_segments(state);
  state.apic_base = old.apic_base;
  if (!init) {
    state.apic_base = State{}.apic_base;
    reset_xsave(state);
    return;
  }

  constexpr u64 kept = x86::Cr0::CD | x86::Cr0::NW;
  state.cr0 = (state.cr0 & ~kept) | (old.cr0 & kept);
  for (usize i = 0; i < kXsaveBytes; ++i) state.xsave[i] = old.xsave[i];
  state.xcr0 = old.xcr0;
  state.xss = old.xss;
  state.pkru = old.pkru;
  state.star = old.star;
  state.lstar = old.lstar;
  state.cstar = old.cstar;
  state.fmask = old.fmask;
  state.kernel_gs_base = old.kernel_gs_base;
  state.tsc_aux = old.tsc_aux;
  state.sysenter_cs = old.sysenter_cs;
  state.sysenter_esp = old.sysenter_esp;
  state.sysenter_eip = old.sysenter_eip;
  state.pat = old.pat;
  state.misc_enable = old.misc_enable;
  state.spec_ctrl = old.spec_ctrl;
  state.tsc_offset = old.tsc_offset;
  state.tsc_adjust = old.tsc_adjust;
  state.mtrr_def_type = old.mtrr_def_type;
  for (usize i = 0; i < 16; ++i) state.mtrr_variable[i] = old.mtrr_variable[i];
  for (usize i = 0; i < 11; ++i) state.mtrr_fixed[i] = old.mtrr_fixed[i];
}

}  // namespace nacre::cpu
