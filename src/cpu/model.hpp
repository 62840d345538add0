// Model: what a guest's processor says that it is. CPUID answers, the registers and bits that exist because
// of them, and the model-specific registers whose value never changes. A model never claims what the host
// processor cannot execute, as most guest instructions run on it as themselves; system features (SMEP,
// x2APIC, TSC deadline …) are ours and there on every host.
//
// Named models (x86-64-v2, -v3, -v4: the levels of the x86-64 psABI) claim exactly their level, so that a
// guest can move between hosts of one vendor; `host` claims everything that the decoder knows and this host
// has.
//
// Left out on every model: MONITOR, VMX and SVM, RTM and HLE, SGX, AMX, LA57, XSAVES, CET,
// performance counters, MCE.
//
// One object per vCPU, immutable after creation; any thread. Freestanding.
#pragma once

#include "base/result.hpp"
#include "cpu/host_cpuid.hpp"
#include "cpu/state.hpp"
#include "cpu/xsave_layout.hpp"
#include "x86/feature.hpp"

namespace nacre::cpu {

enum class CpuidWord : u8;  // cpu/model_features.hpp

enum class Level : u8 { V2, V3, V4, Host };
enum class Vendor : u8 { Intel, Amd, Other };

// Who runs the guest's branches decides which mitigations do anything. docs/adr/0002.
enum class Execution : u8 {
  Translated,  // soft, interp: no guest branch is a host branch of the same address
  Direct,      // kvm, metal: the guest needs what the host would need
};

// Bits of leaf 40000001H, EAX. Linux, Documentation/virt/kvm/x86/cpuid.rst.
struct KvmFeature {
  static constexpr u32 NOP_IO_DELAY = 1 << 1, CLOCKSOURCE2 = 1 << 3, STEAL_TIME = 1 << 5, PV_EOI = 1 << 6,
                       PV_UNHALT = 1 << 7, PV_TLB_FLUSH = 1 << 9, PV_SEND_IPI = 1 << 11, CLOCKSOURCE_STABLE = 1 << 24;
};

class Model {
 public:
  struct Options {
    Level level = Level::Host;
    Execution execution = Execution::Translated;
    u32 processors = 1;  // 1 to 255; all cores of one package, one thread each
    u32 apic_id = 0;     // this one's
    u64 tsc_hz = 0;      // 0: not known, the guest calibrates
    u64 apic_timer_hz = 1'000'000'000;
    u32 kvm_features = KvmFeature::NOP_IO_DELAY | KvmFeature::CLOCKSOURCE2 | KvmFeature::PV_EOI |
                       KvmFeature::PV_UNHALT | KvmFeature::PV_SEND_IPI | KvmFeature::CLOCKSOURCE_STABLE;
    bool paravirtual = true;  // show the KVM leaves at all
    // Protection keys, done by us. To be asked for, as programs of a guest that uses them are never run directly.
    bool protection_keys = false;
  };

  // "x86-64-v2", "x86-64-v3", "x86-64-v4", "host", and "default", which is host. False: no such model.
  static bool parse(const char* name, Level& level);
  static const char* name(Level level);

  // An Error when this host lacks something that the level has; it names it.
  static Result<Model> create(const HostCpuid& host, const Options& options);

  // The instruction's answer. `state` supplies what follows the guest's own settings (CR4.OSXSAVE, XCR0, IA32_APIC_BASE).
  [[nodiscard]] CpuidLeaf cpuid(u32 leaf, u32 subleaf, const State& state) const;

  [[nodiscard]] bool has(x86::Feature feature) const;
  [[nodiscard]] Vendor vendor() const { return vendor_; }
  [[nodiscard]] const Options& options() const { return options_; }

  // Bits that may be set; any other set bit is #GP(0).
  [[nodiscard]] u64 cr4_mask() const;
  [[nodiscard]] u64 efer_mask() const;
  [[nodiscard]] u64 xcr0_mask() const { return xcr0_mask_; }
  [[nodiscard]] u64 spec_ctrl_mask() const;  // IA32_SPEC_CTRL; 0: the register does not exist
  // Whether XSETBV may load `value`. SDM vol. 1, 13.3.
  [[nodiscard]] bool xcr0_valid(u64 value) const;
  [[nodiscard]] const XsaveLayout& xsave() const { return layout_; }
  // MXCSR bits that may be set; the rest is #GP(0). FXSAVE stores it as MXCSR_MASK.
  static constexpr u32 kMxcsrMask = 0xffff;

  // Model-specific registers whose value the model fixes. False: not one of them.
  [[nodiscard]] bool msr_read(u32 msr, u64& value) const;
  // True: a write of `value` that is accepted and has no effect.
  [[nodiscard]] bool msr_write_ignored(u32 msr, u64 value) const;

 private:
  Model() = default;

  static constexpr unsigned kMaxCopied = 40;
  struct Copied {  // leaves taken from the host as they are, or with small changes, at creation
    u32 leaf = 0, subleaf = 0;
    CpuidLeaf value;
  };

  void copy(const HostCpuid& host);
  void copy_leaf(const HostCpuid& host, u32 leaf, u32 subleaf);
  [[nodiscard]] CpuidLeaf copied(u32 leaf, u32 subleaf) const;
  void claim_mitigations();
  [[nodiscard]] bool claims(CpuidWord word, unsigned bit) const;
  [[nodiscard]] bool choose_features(const HostCpuid& host, Error& error);
  [[nodiscard]] CpuidLeaf basic(u32 leaf, u32 subleaf, const State& state) const;
  [[nodiscard]] CpuidLeaf hypervisor(u32 leaf) const;
  [[nodiscard]] CpuidLeaf extended(u32 leaf, u32 subleaf) const;
  [[nodiscard]] CpuidLeaf identification(const State& state) const;
  [[nodiscard]] CpuidLeaf xsave_leaf(u32 subleaf, const State& state) const;
  [[nodiscard]] CpuidLeaf topology(u32 leaf, u32 subleaf) const;
  [[nodiscard]] CpuidLeaf brand(u32 part) const;
  [[nodiscard]] unsigned apic_id_bits() const;

  Options options_;
  Vendor vendor_ = Vendor::Other;
  XsaveLayout layout_;
  u64 xcr0_mask_ = 0;
  u32 words_[12] = {};    // feature words, by CpuidWord (model_features.hpp)
  u64 features_[2] = {};  // by x86::Feature
  Copied copied_[kMaxCopied];
  unsigned copied_count_ = 0;
};

}  // namespace nacre::cpu
