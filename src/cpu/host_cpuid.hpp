// The host processor's CPUID as a port, so that what depends on it can be tested with an invented
// processor. Freestanding; any thread.
#pragma once

#include "base/types.hpp"

namespace nacre::cpu {

struct CpuidLeaf {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;

  constexpr bool operator==(const CpuidLeaf&) const = default;
};

class HostCpuid {
 public:
  virtual ~HostCpuid() = default;
  [[nodiscard]] virtual CpuidLeaf leaf(u32 leaf, u32 subleaf) const = 0;
  // XCR0 as the host's system set it; 0 when the host has no XSAVE.
  [[nodiscard]] virtual u64 xcr0() const = 0;
};

// The processor this code runs on.
class NativeCpuid final : public HostCpuid {
 public:
  [[nodiscard]] CpuidLeaf leaf(u32 leaf, u32 subleaf) const override;
  [[nodiscard]] u64 xcr0() const override;
};

}  // namespace nacre::cpu
