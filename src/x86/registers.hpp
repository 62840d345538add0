// Control, flag and model-specific registers, in the manual's spelling. Intel SDM vol. 3, chapters
// 2 and 11, vol. 4; AMD APM vol. 2. Freestanding; any thread.
#pragma once

#include "base/bits.hpp"

namespace nacre::x86 {

// Indices of general registers as instructions encode them.
enum Gpr : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
// Indices of segment registers as instructions encode them.
enum SegmentIndex : u8 { ES, CS, SS, DS, FS, GS };

// RFLAGS: SDM vol. 1, 3.4.3.
struct Rflags {
  static constexpr u64 CF = 1 << 0, fixed = 1 << 1, PF = 1 << 2, AF = 1 << 4, ZF = 1 << 6, SF = 1 << 7,
                       TF = 1 << 8, IF = 1 << 9, DF = 1 << 10, OF = 1 << 11, IOPL = 3 << 12, NT = 1 << 14,
                       RF = 1 << 16, VM = 1 << 17, AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20, ID = 1 << 21;
  static constexpr u64 arithmetic = CF | PF | AF | ZF | SF | OF;
};

struct Cr0 {
  static constexpr u64 PE = 1, MP = 1 << 1, EM = 1 << 2, TS = 1 << 3, ET = 1 << 4, NE = 1 << 5, WP = 1 << 16,
                       AM = 1 << 18, NW = 1 << 29, CD = 1 << 30, PG = u64{1} << 31;
};

struct Cr4 {
  static constexpr u64 VME = 1 << 0, PVI = 1 << 1, TSD = 1 << 2, DE = 1 << 3, PSE = 1 << 4, PAE = 1 << 5,
                       MCE = 1 << 6, PGE = 1 << 7, PCE = 1 << 8, OSFXSR = 1 << 9, OSXMMEXCPT = 1 << 10,
                       UMIP = 1 << 11, LA57 = 1 << 12, VMXE = 1 << 13, SMXE = 1 << 14, FSGSBASE = 1 << 16,
                       PCIDE = 1 << 17, OSXSAVE = 1 << 18, SMEP = 1 << 20, SMAP = 1 << 21, PKE = 1 << 22;
};

// With CR4.PCIDE. SDM vol. 3, 4.10.1.
struct Cr3 {
  static constexpr u64 pcid_mask = 0xfff, no_flush = u64{1} << 63;
};

struct Efer {
  static constexpr u64 SCE = 1, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11, SVME = 1 << 12, FFXSR = 1 << 14;
};

// Page-table entry bits common to all formats. SDM vol. 3, 4.5.
struct Pte {
  static constexpr u64 P = 1, RW = 1 << 1, US = 1 << 2, PWT = 1 << 3, PCD = 1 << 4, A = 1 << 5, D = 1 << 6,
                       PS = 1 << 7, G = 1 << 8, NX = u64{1} << 63;
};

enum class Msr : u32 {
  IA32_TIME_STAMP_COUNTER = 0x10,
  IA32_PLATFORM_ID = 0x17,
  IA32_APIC_BASE = 0x1b,
  IA32_FEATURE_CONTROL = 0x3a,
  IA32_TSC_ADJUST = 0x3b,
  IA32_SPEC_CTRL = 0x48,
  IA32_PRED_CMD = 0x49,
  IA32_BIOS_UPDT_TRIG = 0x79,
  IA32_BIOS_SIGN_ID = 0x8b,
  MSR_PLATFORM_INFO = 0xce,
  IA32_MTRRCAP = 0xfe,
  IA32_ARCH_CAPABILITIES = 0x10a,
  IA32_SYSENTER_CS = 0x174,
  IA32_SYSENTER_ESP = 0x175,
  IA32_SYSENTER_EIP = 0x176,
  IA32_MCG_CAP = 0x179,
  IA32_MCG_STATUS = 0x17a,
  IA32_MISC_ENABLE = 0x1a0,
  IA32_MTRR_PHYSBASE0 = 0x200,
  IA32_MTRR_FIX64K_00000 = 0x250,
  IA32_PAT = 0x277,
  IA32_MTRR_DEF_TYPE = 0x2ff,
  IA32_TSC_DEADLINE = 0x6e0,
  IA32_X2APIC_FIRST = 0x800,
  IA32_X2APIC_LAST = 0x8ff,
  IA32_XSS = 0xda0,
  IA32_EFER = 0xc0000080,
  IA32_STAR = 0xc0000081,
  IA32_LSTAR = 0xc0000082,
  IA32_CSTAR = 0xc0000083,
  IA32_FMASK = 0xc0000084,
  IA32_FS_BASE = 0xc0000100,
  IA32_GS_BASE = 0xc0000101,
  IA32_KERNEL_GS_BASE = 0xc0000102,
  IA32_TSC_AUX = 0xc0000103,
  // Paravirtual, as KVM numbers them. Linux, Documentation/virt/kvm/x86/msr.rst.
  KVM_WALL_CLOCK_NEW = 0x4b564d00,
  KVM_SYSTEM_TIME_NEW = 0x4b564d01,
  KVM_STEAL_TIME = 0x4b564d03,
  KVM_PV_EOI_EN = 0x4b564d04,
};

// Exception vectors. SDM vol. 3, table 6-1.
enum class Vector : u8 {
  DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS = 12,
  GP = 13, PF = 14, MF = 16, AC = 17, MC = 18, XM = 19, VE = 20, CP = 21,
};

// Page-fault error code. SDM vol. 3, 4.7.
struct PageFaultCode {
  static constexpr u32 P = 1, W = 2, U = 4, RSVD = 8, I = 16, PK = 32;
};

}  // namespace nacre::x86
