#include "cpu/state_msr.hpp"

namespace nacre::cpu {

using x86::Msr;

u64* msr_in(State& s, u32 msr) {
  for (unsigned n = 0; n < 11; ++n) {
    if (kFixedMtrrs[n] == msr) return &s.mtrr_fixed[n];
  }
  if (msr - kFirstVariableMtrr < kVariableMtrrs) return &s.mtrr_variable[msr - kFirstVariableMtrr];
  switch (static_cast<Msr>(msr)) {
    case Msr::IA32_SYSENTER_CS:
      return &s.sysenter_cs;
    case Msr::IA32_SYSENTER_ESP:
      return &s.sysenter_esp;
    case Msr::IA32_SYSENTER_EIP:
      return &s.sysenter_eip;
    case Msr::IA32_PAT:
      return &s.pat;
    case Msr::IA32_MISC_ENABLE:
      return &s.misc_enable;
    case Msr::IA32_MTRR_DEF_TYPE:
      return &s.mtrr_def_type;
    case Msr::IA32_TSC_ADJUST:
      return &s.tsc_adjust;
    case Msr::IA32_EFER:
      return &s.efer;
    case Msr::IA32_STAR:
      return &s.star;
    case Msr::IA32_LSTAR:
      return &s.lstar;
    case Msr::IA32_CSTAR:
      return &s.cstar;
    case Msr::IA32_FMASK:
      return &s.fmask;
    case Msr::IA32_FS_BASE:
      return &s.segment[x86::FS].base;
    case Msr::IA32_GS_BASE:
      return &s.segment[x86::GS].base;
    case Msr::IA32_KERNEL_GS_BASE:
      return &s.kernel_gs_base;
    case Msr::IA32_TSC_AUX:
      return &s.tsc_aux;
    case Msr::IA32_XSS:
      return &s.xss;
    case Msr::IA32_SPEC_CTRL:
      return &s.spec_ctrl;
    default:
      return nullptr;
  }
}

}  // namespace nacre::cpu
