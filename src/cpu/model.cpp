#include "cpu/model.hpp"

#include "cpu/mmu.hpp"
#include "cpu/model_features.hpp"
#include "x86/registers.hpp"

namespace nacre::cpu {
namespace {

using x86::Cr4;
using x86::Efer;
using x86::Feature;

constexpr u64 kAvx512 = Xcr0::opmask | Xcr0::ZMM_Hi256 | Xcr0::Hi16_ZMM;

// EFER bit 21, Automatic IBRS. AMD APM vol. 2, 3.1.7.
constexpr u64 kEferAibrse = u64{1} << 21;

struct Name {
  const char* name;
  Level level;
};
constexpr Name kNames[] = {{"x86-64-v2", Level::V2},
                           {"x86-64-v3", Level::V3},
                           {"x86-64-v4", Level::V4},
                           {"host", Level::Host},
                           {"default", Level::Host}};

bool same_text(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

u32 part(const CpuidLeaf& leaf, unsigned which) {
  const u32 parts[] = {leaf.eax, leaf.ebx, leaf.ecx, leaf.edx};
  return parts[which & 3];
}

Vendor vendor_of(const CpuidLeaf& leaf0) {
  constexpr u32 kGenu = 0x756e6547, kAuth = 0x68747541, kHygo = 0x6f677948;
  if (leaf0.ebx == kGenu) return Vendor::Intel;
  if (leaf0.ebx == kAuth || leaf0.ebx == kHygo) return Vendor::Amd;
  return Vendor::Other;
}

// The host's feature registers, those of leaves it does not have being zero.
void read_words(const HostCpuid& host, u32 (&words)[kCpuidWords]) {
  const u32 max_basic = host.leaf(0, 0).eax;
  const u32 max_extended = host.leaf(0x80000000, 0).eax;
  const u32 max_sub7 = max_basic >= 7 ? host.leaf(7, 0).eax : 0;
  for (unsigned i = 0; i < kCpuidWords; ++i) {
    const CpuidSource& source = kCpuidSources[i];
    const bool there = source.leaf <= (source.leaf >= 0x80000000 ? max_extended : max_basic) &&
                       (source.leaf != 7 || source.subleaf <= max_sub7);
    words[i] = there ? part(host.leaf(source.leaf, source.subleaf), source.part) : 0;
  }
}

// AVX-512 comes whole or not: the decoder's rows do not ask for VL one by one.
bool has_avx512_base(const u32 (&words)[kCpuidWords]) {
  constexpr u32 kNeeded = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31;  // F, DQ, CD, BW, VL
  return (words[static_cast<unsigned>(CpuidWord::L7Ebx)] & kNeeded) == kNeeded;
}

}  // namespace

bool Model::parse(const char* name, Level& level) {
  for (const Name& known : kNames) {
    if (!same_text(name, known.name)) continue;
    level = known.level;
    return true;
  }
  return false;
}

const char* Model::name(Level level) {
  for (const Name& known : kNames) {
    if (known.level == level) return known.name;
  }
  return "host";
}

bool Model::choose_features(const HostCpuid& host, Error& error) {
  u32 host_words[kCpuidWords];
  read_words(host, host_words);
  layout_ = xsave_layout(host);
  if (options_.protection_keys) {
    if (options_.execution != Execution::Translated) {
      error = Error("Protection keys (pku) are there under the engines soft and interp only; add --engine soft");
      return false;
    }
    if (options_.level == Level::V2) {
      error = Error("Protection keys (pku) need XSAVE, which the CPU model x86-64-v2 does not have; take x86-64-v3 or host");
      return false;
    }
    layout_.add_protection_keys();
  }
  u64 usable = layout_.components;
  if (!has_avx512_base(host_words)) usable &= ~kAvx512;

  features_[0] = 1;  // Feature::Base
  for (unsigned i = 0; i < feature_row_count; ++i) {
    const FeatureRow& row = feature_rows[i];
    const unsigned word = static_cast<unsigned>(row.word);
    if (row.level > options_.level && row.level != Level::Host) continue;
    if (row.level == Level::Host && options_.level != Level::Host) continue;
    if (same_text(row.name, "hypervisor") && !options_.paravirtual) continue;
    if (row.feature == Feature::Pku && !options_.protection_keys) continue;
    const bool made_by_us = row.source == FeatureRow::Source::Board ||
                            (row.source == FeatureRow::Source::Ours && options_.execution == Execution::Translated);
    const bool offered = made_by_us || (host_words[word] >> row.bit & 1) != 0;
    if (!offered || (row.components & ~usable) != 0) {
      if (row.source != FeatureRow::Source::Host || options_.level == Level::Host) continue;
      error = Error("CPU model ").append(name(options_.level)).append(" needs ").append(row.name);
      error.append(", which this processor does not have; choose a lower model or \"host\"");
      return false;
    }
    words_[word] |= u32{1} << row.bit;
    xcr0_mask_ |= row.components;
    const unsigned feature = static_cast<unsigned>(row.feature);
    features_[feature / 64] |= u64{1} << (feature % 64);
  }
  return true;
}

Result<Model> Model::create(const HostCpuid& host, const Options& options) {
  Model model;
  model.options_ = options;
  if (options.processors == 0 || options.processors > 255 || options.apic_id >= options.processors) {
    return Error("The number of processors must be 1 to 255");
  }
  model.vendor_ = vendor_of(host.leaf(0, 0));
  Error error;
  if (!model.choose_features(host, error)) return error;
  model.copy(host);
  model.claim_mitigations();
  return model;
}

bool Model::has(Feature feature) const {
  const unsigned number = static_cast<unsigned>(feature);
  return number < 128 && (features_[number / 64] >> (number % 64) & 1) != 0;
}

bool Model::claims(CpuidWord word, unsigned bit) const {
  return (words_[static_cast<unsigned>(word)] >> bit & 1) != 0;
}

u64 Model::cr4_mask() const {
  u64 mask = Cr4::TSD | Cr4::DE | Cr4::PSE | Cr4::PAE | Cr4::PGE | Cr4::PCE | Cr4::OSFXSR | Cr4::OSXMMEXCPT |
             Cr4::UMIP | Cr4::PCIDE | Cr4::FSGSBASE | Cr4::SMEP | Cr4::SMAP;
  // Not claimed, so that nobody drives machine checks that never come; but OVMF sets it unasked, before it has an IDT.
  mask |= Cr4::MCE;
  if (has(Feature::Xsave)) mask |= Cr4::OSXSAVE;
  if (has(Feature::Pku)) mask |= Cr4::PKE;
  return mask;
}

u64 Model::efer_mask() const {
  u64 mask = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
  if (claims(CpuidWord::X21Eax, 8)) mask |= kEferAibrse;
  return mask;
}

u64 Model::spec_ctrl_mask() const {
  constexpr u64 kIbrs = 1;  // SDM vol. 4, IA32_SPEC_CTRL
  return claims(CpuidWord::L7Edx, 26) ? kIbrs : 0;
}

bool Model::xcr0_valid(u64 value) const {
  if ((value & ~xcr0_mask_) != 0 || (value & Xcr0::x87) == 0) return false;
  if ((value & Xcr0::AVX) != 0 && (value & Xcr0::SSE) == 0) return false;
  const u64 avx512 = value & kAvx512;
  return avx512 == 0 || (avx512 == kAvx512 && (value & Xcr0::AVX) != 0);
}

}  // namespace nacre::cpu
