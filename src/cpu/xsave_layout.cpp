#include "cpu/xsave_layout.hpp"

namespace nacre::cpu {
namespace {

constexpr u64 kHeld =
    Xcr0::x87 | Xcr0::SSE | Xcr0::AVX | Xcr0::opmask | Xcr0::ZMM_Hi256 | Xcr0::Hi16_ZMM | Xcr0::PKRU;
constexpr u64 kAvx512 = Xcr0::opmask | Xcr0::ZMM_Hi256 | Xcr0::Hi16_ZMM;

}  // namespace

void XsaveLayout::add_protection_keys() {
  constexpr u16 kBytes = 8;  // SDM vol. 1, 13.5.7
  const u32 end = standard_bytes(components);
  if (components == 0 || (components & Xcr0::PKRU) != 0 || end + kBytes > kXsaveBytes) return;
  offset[kPkru] = static_cast<u16>(end);
  bytes[kPkru] = kBytes;
  components |= Xcr0::PKRU;
}

u32 XsaveLayout::standard_bytes(u64 xcr0) const {
  u32 end = kHeaderEnd;
  for (unsigned i = 2; i < kComponents; ++i) {
    const u32 component_end = u32{offset[i]} + bytes[i];
    if ((xcr0 >> i & 1) != 0 && component_end > end) end = component_end;
  }
  return end;
}

u32 XsaveLayout::compacted_bytes(u64 xcr0) const {
  u32 end = kHeaderEnd;
  for (unsigned i = 2; i < kComponents; ++i) {
    if ((xcr0 >> i & 1) == 0) continue;
    if (aligned[i]) end = (end + 63) & ~u32{63};
    end += bytes[i];
  }
  return end;
}

XsaveLayout xsave_layout(const HostCpuid& host) {
  XsaveLayout layout;
  u64 components = host.xcr0() & kHeld;
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if ((components >> i & 1) == 0) continue;
    const CpuidLeaf leaf = host.leaf(0xd, i);
    if (leaf.eax == 0 || leaf.ebx < XsaveLayout::kHeaderEnd || u64{leaf.ebx} + leaf.eax > kXsaveBytes) {
      components &= ~(u64{1} << i);
      continue;
    }
    layout.offset[i] = static_cast<u16>(leaf.ebx);
    layout.bytes[i] = static_cast<u16>(leaf.eax);
    layout.aligned[i] = (leaf.ecx & 2) != 0;
  }
  // The three AVX-512 components come together, and only with AVX. SDM vol. 1, 13.3.
  if ((components & Xcr0::AVX) == 0 || (components & kAvx512) != kAvx512) components &= ~kAvx512;
  if ((components & (Xcr0::x87 | Xcr0::SSE)) != (Xcr0::x87 | Xcr0::SSE)) components = 0;
  layout.components = components;
  return layout;
}

}  // namespace nacre::cpu
