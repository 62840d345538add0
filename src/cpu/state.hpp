// The architectural state of one processor: everything a snapshot needs, nothing an engine keeps for
// itself. SDM vol. 3, 2.1 and 9.1.1. Freestanding; owned by the vCPU's thread.
#pragma once

#include <type_traits>

#include "base/address.hpp"
#include "base/types.hpp"
#include "x86/registers.hpp"

namespace nacre::cpu {

// Segment attributes in the layout that VMX and SVM-like descriptors share: bits 55..40 of a
// descriptor moved down. SDM vol. 3, 3.4.5.
struct SegmentAttributes {
  static constexpr u16 type_mask = 0xf, S = 1 << 4, DPL = 3 << 5, P = 1 << 7, AVL = 1 << 12, L = 1 << 13,
                       DB = 1 << 14, G = 1 << 15;
  static constexpr unsigned dpl_shift = 5;
};

struct Segment {
  u16 selector = 0;
  u16 attributes = 0;   // SegmentAttributes; P clear in a null (unusable) register
  u32 limit = 0;        // bytes, already scaled by G
  u64 base = 0;

  [[nodiscard]] constexpr bool present() const { return (attributes & SegmentAttributes::P) != 0; }
  [[nodiscard]] constexpr unsigned dpl() const {
    return (attributes & SegmentAttributes::DPL) >> SegmentAttributes::dpl_shift;
  }
  [[nodiscard]] constexpr unsigned type() const { return attributes & SegmentAttributes::type_mask; }
};

struct TableRegister {
  u64 base = 0;
  u16 limit = 0;
};

enum class Activity : u8 { Running, Halted, WaitForSipi, Shutdown };

// An exception, interrupt or NMI on its way to the guest.
struct Event {
  enum class Kind : u8 { None, Exception, ExternalInterrupt, Nmi, SoftwareInterrupt };
  Kind kind = Kind::None;
  u8 vector = 0;
  bool has_error_code = false;
  u32 error_code = 0;
  u64 cr2 = 0;  // for #PF: goes into CR2 on delivery
};

// Bytes of the XSAVE image kept: enough for AVX-512 and PKRU in the standard format.
inline constexpr usize kXsaveBytes = 2752;

// XCR0 bits. SDM vol. 1, 13.1.
struct Xcr0 {
  static constexpr u64 x87 = 1, SSE = 2, AVX = 4, opmask = 1 << 5, ZMM_Hi256 = 1 << 6, Hi16_ZMM = 1 << 7,
                       PKRU = 1 << 9;
};

struct State {
  u64 gpr[16] = {};
  u64 rip = 0xfff0;
  u64 rflags = x86::Rflags::fixed;

  Segment segment[6];  // by x86::SegmentIndex
  Segment ldtr, tr;
  TableRegister gdtr, idtr;

  u64 cr0 = 0x60000010, cr2 = 0, cr3 = 0, cr4 = 0;  // CR8 is the local APIC's TPR: Platform
  u64 dr[4] = {};
  u64 dr6 = 0xffff0ff0, dr7 = 0x400;
  u64 xcr0 = Xcr0::x87;
  u64 pdpte[4] = {};  // PAE paging: loaded with CR3. SDM vol. 3, 4.4.1

  u64 efer = 0, star = 0, lstar = 0, cstar = 0, fmask = 0, kernel_gs_base = 0, tsc_aux = 0;
  u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  u64 pat = 0x0007040600070406, misc_enable = 1, apic_base = 0xfee00900, spec_ctrl = 0, xss = 0;
  u64 tsc_offset = 0, tsc_adjust = 0;  // guest TSC = platform TSC + tsc_offset
  u64 mtrr_def_type = 0, mtrr_variable[16] = {}, mtrr_fixed[11] = {};

  Event pending;                      // being delivered, or to be re-injected
  Activity activity = Activity::Running;
  bool interrupt_shadow = false;      // after STI or MOV SS: no interrupt before the next instruction ends
  bool nmi_blocked = false;           // until IRET
  // One behind the one that is being handled. Two before either is: a processor would have begun with the first at once, when
  // a thread that plays one had yet to be told. SDM vol. 3, 6.7.1.
  u8 nmi_pending = 0;

  // Rights of protection keys, two bits each: XSAVE's component 9, kept here as no host register holds it. SDM vol. 3, 4.6.2
  u32 pkru = 0;

  // x87/SSE/AVX/AVX-512 in the standard (not compacted) XSAVE format. SDM vol. 1, 13.4.
  alignas(64) u8 xsave[kXsaveBytes] = {};

  // Current privilege level: DPL of SS (real mode 0, V86 3). SDM vol. 3, 5.5.
  [[nodiscard]] constexpr unsigned cpl() const {
    if ((cr0 & x86::Cr0::PE) == 0) return 0;
    if ((rflags & x86::Rflags::VM) != 0) return 3;
    return segment[x86::SS].dpl();
  }
  [[nodiscard]] constexpr bool long_mode_active() const { return (efer & x86::Efer::LMA) != 0; }
  [[nodiscard]] constexpr bool in_64bit_code() const {
    return long_mode_active() && (segment[x86::CS].attributes & SegmentAttributes::L) != 0;
  }
  // 32-bit protected or compatibility mode as most know it: code, stack and data from 0 to 4 GiB, and neither ring 1 nor 2. (FS
  // and GS may be anything.)
  [[nodiscard]] constexpr bool in_flat_32bit_code() const {
    using A = SegmentAttributes;
    constexpr u16 kData = A::P | A::S | 0xe, kWritable = A::P | A::S | 2;  // a segment that grows upwards
    constexpr u16 kCode = A::P | A::S | A::DB | 0xa, kReadable = A::P | A::S | A::DB | 0xa;
    const auto is_flat = [](const Segment& s, u16 mask, u16 wanted) {
      return (s.attributes & mask) == wanted && s.base == 0 && s.limit == ~u32{0};
    };
    if ((cr0 & x86::Cr0::PE) == 0 || (rflags & x86::Rflags::VM) != 0 || cpl() == 1 || cpl() == 2) return false;
    if ((segment[x86::CS].attributes & A::L) != 0 && long_mode_active()) return false;
    return is_flat(segment[x86::CS], kCode, kReadable) && is_flat(segment[x86::DS], kData, kWritable) &&
           is_flat(segment[x86::ES], kData, kWritable) && is_flat(segment[x86::SS], kData | A::DB, kWritable | A::DB);
  }
};

// Those whose changes are worth telling.
struct ControlRegisters {
  u64 cr0 = 0, cr3 = 0, cr4 = 0, efer = 0, xcr0 = 0;

  static ControlRegisters of(const State& s) { return {s.cr0, s.cr3, s.cr4, s.efer, s.xcr0}; }
  bool operator==(const ControlRegisters&) const = default;
};

// Translated code and save/load address the state by offset.
static_assert(std::is_standard_layout_v<State>);
static_assert(alignof(State) == 64);

// The state after power-on or INIT: SDM vol. 3, table 9-1. `init` keeps what INIT leaves alone
// (x87/SSE state, MSRs other than the APIC's, CR0.CD/NW).
void reset(State& state, bool init);

}  // namespace nacre::cpu
