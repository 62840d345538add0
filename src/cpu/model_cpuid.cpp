// What the CPUID instruction answers. SDM vol. 2, CPUID; AMD APM vol. 3, appendix E.
#include "cpu/mmu.hpp"
#include "cpu/model.hpp"
#include "cpu/model_features.hpp"
#include "x86/registers.hpp"

namespace nacre::cpu {
namespace {

constexpr u32 kMaxBasic = 0x16;
constexpr u32 kMaxHypervisor = 0x40000010;
constexpr u32 kMaxExtendedAmd = 0x80000021, kMaxExtended = 0x80000008;
constexpr u32 kLinearBits = 48;

constexpr CpuidLeaf kKvmSignature = {kMaxHypervisor, 0x4b4d564b, 0x564b4d56, 0x0000004d};  // "KVMKVMKVM"

u32 kilohertz(u64 hertz) {
  return static_cast<u32>(hertz / 1000);
}
u32 megahertz(u64 hertz) {
  return static_cast<u32>(hertz / 1'000'000);
}

// Cache leaves: the number of logical processors that share it, less one, is in bits 25..14.
u32 with_sharers(u32 eax, u32 sharers) {
  return (eax & ~0x03ffc000u) | (sharers - 1) << 14;
}

}  // namespace

void Model::copy_leaf(const HostCpuid& host, u32 leaf, u32 subleaf) {
  if (copied_count_ == kMaxCopied) return;
  copied_[copied_count_++] = {leaf, subleaf, host.leaf(leaf, subleaf)};
}

CpuidLeaf Model::copied(u32 leaf, u32 subleaf) const {
  for (unsigned i = 0; i < copied_count_; ++i) {
    if (copied_[i].leaf == leaf && copied_[i].subleaf == subleaf) return copied_[i].value;
  }
  return {};
}

// Names and caches: leaves that describe the host and change nothing about what runs.
void Model::copy(const HostCpuid& host) {
  const u32 max_basic = host.leaf(0, 0).eax;
  const u32 max_extended = host.leaf(0x80000000, 0).eax;
  copy_leaf(host, 0, 0);
  copy_leaf(host, 1, 0);
  if (max_basic >= 2 && vendor_ == Vendor::Intel) copy_leaf(host, 2, 0);
  if (max_basic >= 4 && vendor_ == Vendor::Intel) {
    for (u32 i = 0; i < 5; ++i) copy_leaf(host, 4, i);
  }
  for (u32 leaf = 0x80000002; leaf <= 0x80000006 && leaf <= max_extended; ++leaf) copy_leaf(host, leaf, 0);
  if (max_extended >= 0x8000001d && vendor_ == Vendor::Amd) {
    copy_leaf(host, 0x80000019, 0);
    copy_leaf(host, 0x8000001a, 0);
    for (u32 i = 0; i < 5; ++i) copy_leaf(host, 0x8000001d, i);
  }
}

// Mitigations that do nothing under a translator, or that it makes needless: docs/adr/0002.
void Model::claim_mitigations() {
  if (options_.execution != Execution::Translated) return;
  const auto claim = [this](CpuidWord word, unsigned bit) {
    words_[static_cast<unsigned>(word)] |= u32{1} << bit;
  };
  if (vendor_ == Vendor::Amd) {
    claim(CpuidWord::X8Ebx, 29);   // BTC_NO: no "untrained return thunk"
    claim(CpuidWord::X21Eax, 6);   // NullSelectClearsBase: as the interpreter does
    claim(CpuidWord::X21Eax, 8);   // AutomaticIBRS instead of retpolines
    claim(CpuidWord::X21Eax, 29);  // SRSO_NO: no "safe return"
  }
  if (vendor_ == Vendor::Intel) {
    claim(CpuidWord::L7Edx, 26);  // IA32_SPEC_CTRL, which enhanced IBRS is switched on by
    claim(CpuidWord::L7Edx, 29);  // IA32_ARCH_CAPABILITIES
  }
}

unsigned Model::apic_id_bits() const {
  unsigned bits = 0;
  while ((u32{1} << bits) < options_.processors) ++bits;
  return bits;
}

CpuidLeaf Model::cpuid(u32 leaf, u32 subleaf, const State& state) const {
  if (options_.paravirtual && leaf >= 0x40000000 && leaf <= 0x4fffffff) return hypervisor(leaf);
  if (leaf >= 0x80000000 && leaf <= 0x8fffffff) return extended(leaf, subleaf);
  return basic(leaf, subleaf, state);
}

// Leaf 1: family and model as the host's, so that the guest's tuning and errata are right.
CpuidLeaf Model::identification(const State& state) const {
  constexpr u32 kCacheLine = 8;  // in units of 8 bytes, for CLFLUSH
  constexpr u32 kHtt = 1u << 28, kOsxsave = 1u << 27, kApic = 1u << 9;
  constexpr u64 kApicEnabled = 1 << 11;  // of IA32_APIC_BASE. SDM vol. 3, 11.4.3
  CpuidLeaf value;
  value.eax = copied(1, 0).eax;
  value.ebx = options_.apic_id << 24 | options_.processors << 16 | kCacheLine << 8;
  value.ecx = words_[static_cast<unsigned>(CpuidWord::L1Ecx)];
  value.edx = words_[static_cast<unsigned>(CpuidWord::L1Edx)];
  if (options_.processors > 1) value.edx |= kHtt;
  if ((state.cr4 & x86::Cr4::OSXSAVE) != 0) value.ecx |= kOsxsave;
  if ((state.apic_base & kApicEnabled) == 0) value.edx &= ~kApic;
  return value;
}

CpuidLeaf Model::xsave_leaf(u32 subleaf, const State& state) const {
  if (!has(x86::Feature::Xsave)) return {};
  if (subleaf == 0) {
    return {static_cast<u32>(xcr0_mask_), layout_.standard_bytes(state.xcr0 & xcr0_mask_),
            layout_.standard_bytes(xcr0_mask_), static_cast<u32>(xcr0_mask_ >> 32)};
  }
  if (subleaf == 1) {
    return {words_[static_cast<unsigned>(CpuidWord::Lds1Eax)],
            layout_.compacted_bytes(state.xcr0 & xcr0_mask_), 0, 0};
  }
  if (subleaf >= XsaveLayout::kComponents || (xcr0_mask_ >> subleaf & 1) == 0) return {};
  return {layout_.bytes[subleaf], layout_.offset[subleaf], layout_.aligned[subleaf] ? 2u : 0u, 0};
}

// Leaf 0BH: one thread a core, all cores in one package.
CpuidLeaf Model::topology(u32 leaf, u32 subleaf) const {
  constexpr u32 kThreads = 1u << 8, kCores = 2u << 8;
  const u32 number = subleaf & 0xff;
  if (leaf != 0xb) return {};
  if (number == 0) return {0, 1, kThreads, options_.apic_id};
  if (number == 1) return {apic_id_bits(), options_.processors, kCores | 1, options_.apic_id};
  return {0, 0, number, options_.apic_id};
}

CpuidLeaf Model::basic(u32 leaf, u32 subleaf, const State& state) const {
  constexpr u32 kArat = 1 << 2;  // the APIC timer runs in every power state
  switch (leaf) {
    case 0: {
      CpuidLeaf value = copied(0, 0);
      value.eax = kMaxBasic;
      return value;
    }
    case 1:
      return identification(state);
    case 2:
      return copied(2, 0);
    case 4: {
      CpuidLeaf value = copied(4, subleaf);
      if ((value.eax & 0x1f) == 0) return {};
      const bool shared = (value.eax >> 5 & 7) >= 3;
      value.eax = with_sharers(value.eax, shared ? options_.processors : 1) & 0x03ffffff;
      value.eax |= ((u32{1} << apic_id_bits()) - 1) << 26;
      return value;
    }
    case 6:
      return {kArat, 0, 0, 0};
    case 7:
      if (subleaf == 0) {
        const u32 ospke = (state.cr4 & x86::Cr4::PKE) != 0 ? 1 << 4 : 0;
        return {1, words_[static_cast<unsigned>(CpuidWord::L7Ebx)],
                words_[static_cast<unsigned>(CpuidWord::L7Ecx)] | ospke,
                words_[static_cast<unsigned>(CpuidWord::L7Edx)]};
      }
      return {subleaf == 1 ? words_[static_cast<unsigned>(CpuidWord::L7s1Eax)] : 0, 0, 0, 0};
    case 0xb:
      return topology(leaf, subleaf);
    case 0xd:
      return xsave_leaf(subleaf, state);
    case 0x15: {
      // TSC = crystal × EBX / EAX; the crystal also clocks the APIC timer. SDM vol. 3, 19.7.3.
      if (options_.tsc_hz == 0) return {};
      const u32 crystal = kilohertz(options_.apic_timer_hz);
      return {crystal, kilohertz(options_.tsc_hz), crystal * 1000, 0};
    }
    case 0x16: {
      const u32 frequency = megahertz(options_.tsc_hz) & 0xffff;
      return {frequency, frequency, 0, 0};
    }
    default:
      return {};
  }
}

CpuidLeaf Model::hypervisor(u32 leaf) const {
  switch (leaf) {
    case 0x40000000:
      return kKvmSignature;
    case 0x40000001:
      return {options_.kvm_features, 0, 0, 0};
    case 0x40000010:  // frequencies in kHz: TSC, APIC timer
      if (options_.tsc_hz == 0) return {};
      return {kilohertz(options_.tsc_hz), kilohertz(options_.apic_timer_hz), 0, 0};
    default:
      return {};
  }
}

// The processor's name, 16 bytes a leaf. A named model does not pretend to be the host's product.
CpuidLeaf Model::brand(u32 part) const {
  if (options_.level == Level::Host) return copied(0x80000002 + part, 0);
  char text[48] = "Nacre virtual processor ";
  usize length = 24;
  for (const char* from = name(options_.level); *from != 0 && length + 1 < sizeof text; ++from) {
    text[length++] = *from;
  }
  CpuidLeaf value;
  __builtin_memcpy(&value, text + usize{16} * part, sizeof value);
  return value;
}

CpuidLeaf Model::extended(u32 leaf, u32 subleaf) const {
  constexpr u32 kInvariantTsc = 1 << 8, kCmpLegacy = 1 << 1, kTopoext = 1 << 22;
  constexpr u32 kAmdSharedWithLeaf1 = 0x0183f3ff, kMmxext = 1u << 22;
  const bool amd = vendor_ == Vendor::Amd;
  switch (leaf) {
    case 0x80000000: {
      CpuidLeaf value{amd ? kMaxExtendedAmd : kMaxExtended, 0, 0, 0};
      const CpuidLeaf names = copied(0, 0);
      if (amd) value.ebx = names.ebx, value.ecx = names.ecx, value.edx = names.edx;
      return value;
    }
    case 0x80000001: {
      CpuidLeaf value;
      value.ecx = words_[static_cast<unsigned>(CpuidWord::X1Ecx)];
      value.edx = words_[static_cast<unsigned>(CpuidWord::X1Edx)];
      if (amd) {
        value.eax = copied(1, 0).eax;
        value.edx |= (words_[static_cast<unsigned>(CpuidWord::L1Edx)] & kAmdSharedWithLeaf1) | kMmxext;
        value.ecx |= kTopoext;
        if (options_.processors > 1) value.ecx |= kCmpLegacy;
      }
      return value;
    }
    case 0x80000002:
    case 0x80000003:
    case 0x80000004:
      return brand(leaf - 0x80000002);
    case 0x80000005:
      return amd ? copied(leaf, 0) : CpuidLeaf{};
    case 0x80000006:
      return copied(leaf, 0);
    case 0x80000007:
      return {0, 0, 0, kInvariantTsc};
    case 0x80000008: {
      CpuidLeaf value{kPhysicalAddressBits | kLinearBits << 8,
                      words_[static_cast<unsigned>(CpuidWord::X8Ebx)], 0, 0};
      if (amd) value.ecx = apic_id_bits() << 12 | (options_.processors - 1);
      return value;
    }
    default:
      break;
  }
  if (!amd) return {};
  switch (leaf) {
    case 0x80000019:
    case 0x8000001a:
      return copied(leaf, 0);
    case 0x8000001d: {
      CpuidLeaf value = copied(leaf, subleaf);
      if ((value.eax & 0x1f) == 0) return {};
      value.eax = with_sharers(value.eax, (value.eax >> 5 & 7) >= 3 ? options_.processors : 1);
      return value;
    }
    case 0x8000001e:
      return {options_.apic_id, options_.apic_id & 0xff, 0, 0};
    case 0x80000021:
      return {words_[static_cast<unsigned>(CpuidWord::X21Eax)], 0,
              words_[static_cast<unsigned>(CpuidWord::X21Ecx)], 0};
    default:
      return {};
  }
}

}  // namespace nacre::cpu
