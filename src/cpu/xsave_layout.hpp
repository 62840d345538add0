// Where each component lies in State::xsave. The standard format's offsets are the processor's own
// (AMD and Intel place AVX-512 differently), so the layout is read from the host, and CPUID leaf 0DH tells
// the guest the same. SDM vol. 1, 13.4 and 13.5. Freestanding; any thread.
#pragma once

#include "cpu/host_cpuid.hpp"
#include "cpu/state.hpp"

namespace nacre::cpu {

struct XsaveLayout {
  static constexpr usize kComponents = 10;
  static constexpr unsigned kYmmHigh = 2, kOpmask = 5, kZmmHigh = 6, kHi16Zmm = 7, kPkru = 9;
  // Legacy region. SDM vol. 1, table 10-2.
  static constexpr usize kFcw = 0, kFsw = 2, kFtw = 4, kFop = 6, kFip = 8, kFdp = 16, kMxcsr = 24,
                         kMxcsrMask = 28, kSt = 32, kXmm = 160, kLegacyBytes = 512;
  // Header. SDM vol. 1, 13.4.2.
  static constexpr usize kXstateBv = 512, kXcompBv = 520, kHeaderEnd = 576;

  u64 components = 0;            // XCR0 bits that host and State can hold; 0: no XSAVE on this host
  u16 offset[kComponents] = {};  // standard format; 0 for x87 and SSE, and where absent
  u16 bytes[kComponents] = {};
  bool aligned[kComponents] = {};  // in the compacted format: starts on a 64-byte boundary

  // PKRU, which we keep ourselves: where the host has it, or else behind all that the host has.
  void add_protection_keys();

  // Bytes of an XSAVE area in the standard format with these components.
  [[nodiscard]] u32 standard_bytes(u64 xcr0) const;
  // … and of an XSAVEC area.
  [[nodiscard]] u32 compacted_bytes(u64 xcr0) const;
};

XsaveLayout xsave_layout(const HostCpuid& host);

}  // namespace nacre::cpu
