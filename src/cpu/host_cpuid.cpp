#include "cpu/host_cpuid.hpp"

namespace nacre::cpu {

CpuidLeaf NativeCpuid::leaf(u32 leaf, u32 subleaf) const {
  CpuidLeaf result;
  asm volatile("cpuid"
               : "=a"(result.eax), "=b"(result.ebx), "=c"(result.ecx), "=d"(result.edx)
               : "a"(leaf), "c"(subleaf));
  return result;
}

u64 NativeCpuid::xcr0() const {
  constexpr u32 kOsxsave = 1u << 27;  // leaf 1, ECX. SDM vol. 2, CPUID
  if ((leaf(1, 0).ecx & kOsxsave) == 0) return 0;
  u32 low = 0;
  u32 high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return u64{high} << 32 | low;
}

}  // namespace nacre::cpu
