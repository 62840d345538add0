#include "cpu/model.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "cpu/mmu.hpp"
#include "x86/registers.hpp"

namespace nacre::cpu {
namespace {

using x86::Feature;

// A processor made of a table of leaves.
class InventedCpu final : public HostCpuid {
 public:
  CpuidLeaf leaf(u32 leaf, u32 subleaf) const override {
    const auto found = leaves.find({leaf, subleaf});
    return found == leaves.end() ? CpuidLeaf{} : found->second;
  }
  u64 xcr0() const override { return xcr0_value; }

  std::map<std::pair<u32, u32>, CpuidLeaf> leaves;
  u64 xcr0_value = 0;
};

// An Intel server with AVX-512, AMX, protection keys, VMX, RTM and MONITOR.
InventedCpu intel_server() {
  InventedCpu cpu;
  cpu.leaves[{0, 0}] = {0x20, 0x756e6547, 0x6c65746e, 0x49656e69};
  cpu.leaves[{1, 0}] = {0x000806f8, 0, 0xffffffff, 0xffffffff};
  cpu.leaves[{7, 0}] = {2, 0xffffffff, 0xffffffff, 0xffffffff};
  cpu.leaves[{7, 1}] = {0xffffffff, 0, 0, 0};
  cpu.leaves[{0xd, 1}] = {0x1f, 0, 0, 0};
  cpu.leaves[{0xd, 2}] = {256, 576, 0, 0};
  cpu.leaves[{0xd, 5}] = {64, 1088, 0, 0};
  cpu.leaves[{0xd, 6}] = {512, 1152, 0, 0};
  cpu.leaves[{0xd, 7}] = {1024, 1664, 0, 0};
  cpu.leaves[{0xd, 9}] = {8, 2688, 0, 0};
  cpu.leaves[{0x80000000, 0}] = {0x80000008, 0, 0, 0};
  cpu.leaves[{0x80000001, 0}] = {0, 0, 0xffffffff, 0xffffffff};
  cpu.xcr0_value = 0x602e7;
  return cpu;
}

// An AMD server as an unprivileged user of a cloud machine sees it.
InventedCpu amd_server() {
  InventedCpu cpu;
  cpu.leaves[{0, 0}] = {0x10, 0x68747541, 0x444d4163, 0x69746e65};
  cpu.leaves[{1, 0}] = {0x00a10f11, 0x00020800, 0xfffa3203, 0x178bfbff};
  cpu.leaves[{7, 0}] = {1, 0xf1bf07ab, 0x00405fc6, 0x00000010};
  cpu.leaves[{7, 1}] = {0x20, 0, 0, 0};
  cpu.leaves[{0xd, 1}] = {0xf, 0, 0, 0};
  cpu.leaves[{0xd, 2}] = {256, 576, 0, 0};
  cpu.leaves[{0xd, 5}] = {64, 832, 0, 0};
  cpu.leaves[{0xd, 6}] = {512, 896, 0, 0};
  cpu.leaves[{0xd, 7}] = {1024, 1408, 0, 0};
  cpu.leaves[{0x80000000, 0}] = {0x80000021, 0x68747541, 0x444d4163, 0x69746e65};
  cpu.leaves[{0x80000001, 0}] = {0x00a10f11, 0x40000000, 0x004003f3, 0x2fd3fbff};
  cpu.leaves[{0x80000008, 0}] = {0x00303030, 0x50020005, 0x7001, 0};
  cpu.leaves[{0x80000021, 0}] = {0x204, 0, 0x86, 0};
  cpu.xcr0_value = 0xe7;
  return cpu;
}

Model make(const HostCpuid& host, Level level) {
  Model::Options options;
  options.level = level;
  options.tsc_hz = 2'596'000'000;
  auto model = Model::create(host, options);
  EXPECT_TRUE(model.ok()) << model.error().message();
  return model.take();
}

bool bit(u32 word, unsigned number) {
  return (word >> number & 1) != 0;
}

TEST(Model, NamesAreParsedAndPrinted) {
  for (const char* name : {"x86-64-v2", "x86-64-v3", "x86-64-v4", "host"}) {
    Level level{};
    ASSERT_TRUE(Model::parse(name, level)) << name;
    EXPECT_STREQ(Model::name(level), name);
  }
  Level level{};
  EXPECT_TRUE(Model::parse("default", level));
  EXPECT_EQ(level, Level::Host);
  EXPECT_FALSE(Model::parse("x86-64-v5", level));
  EXPECT_FALSE(Model::parse("", level));
  EXPECT_FALSE(Model::parse("hos", level));
}

TEST(Model, ALevelHasExactlyItsInstructionSets) {
  const InventedCpu host = intel_server();
  const Model v2 = make(host, Level::V2), v3 = make(host, Level::V3), v4 = make(host, Level::V4);
  EXPECT_TRUE(v2.has(Feature::Sse4_2));
  EXPECT_FALSE(v2.has(Feature::Avx));
  EXPECT_FALSE(v2.has(Feature::Xsave));
  EXPECT_EQ(v2.xcr0_mask(), 0u);
  EXPECT_EQ(v2.cr4_mask() & x86::Cr4::OSXSAVE, 0u);
  EXPECT_TRUE(v3.has(Feature::Avx2));
  EXPECT_TRUE(v3.has(Feature::Lzcnt));
  EXPECT_FALSE(v3.has(Feature::Avx512f));
  EXPECT_FALSE(v3.has(Feature::Aes));
  EXPECT_EQ(v3.xcr0_mask(), 7u);
  EXPECT_TRUE(v4.has(Feature::Avx512bw));
  EXPECT_FALSE(v4.has(Feature::Avx512Vbmi));
  EXPECT_EQ(v4.xcr0_mask(), 0xe7u);
}

TEST(Model, ALevelTheHostLacksIsAnErrorThatNamesWhatIsMissing) {
  InventedCpu host = amd_server();
  host.leaves[{7, 0}].ebx &= ~(1u << 8);  // BMI2
  Model::Options options;
  options.level = Level::V3;
  const auto model = Model::create(host, options);
  ASSERT_FALSE(model.ok());
  EXPECT_NE(std::string(model.error().message()).find("bmi2"), std::string::npos);
  EXPECT_NE(std::string(model.error().message()).find("x86-64-v3"), std::string::npos);
}

TEST(Model, WhatNoEngineRunsIsNeverClaimed) {
  const Model model = make(intel_server(), Level::Host);
  State state;
  const CpuidLeaf one = model.cpuid(1, 0, state);
  EXPECT_FALSE(bit(one.ecx, 3));   // MONITOR
  EXPECT_FALSE(bit(one.ecx, 5));   // VMX
  EXPECT_FALSE(bit(one.edx, 7));   // MCE
  EXPECT_NE(model.cr4_mask() & x86::Cr4::MCE, 0u);  // which may be set all the same
  const CpuidLeaf seven = model.cpuid(7, 0, state);
  EXPECT_FALSE(bit(seven.ebx, 4));                              // HLE
  EXPECT_FALSE(bit(seven.ebx, 11));                             // RTM
  EXPECT_FALSE(bit(seven.ebx, 2));                              // SGX
  EXPECT_FALSE(bit(seven.ecx, 3));                              // PKU
  EXPECT_FALSE(bit(seven.ecx, 16));                             // LA57
  EXPECT_FALSE(bit(seven.edx, 24));                             // AMX-TILE
  EXPECT_FALSE(bit(seven.edx, 20));                             // IBT
  EXPECT_FALSE(bit(model.cpuid(0x80000001, 0, state).ecx, 2));  // SVM
  EXPECT_FALSE(bit(model.cpuid(0xd, 1, state).eax, 3));         // XSAVES
  EXPECT_EQ(model.xcr0_mask(), 0xe7u);
}

TEST(Model, SystemFeaturesAreOursOnEveryHost) {
  InventedCpu host = amd_server();
  host.leaves[{7, 0}].ebx &= ~(1u << 7 | 1u << 20);  // SMEP, SMAP
  const Model model = make(host, Level::Host);
  State state;
  EXPECT_TRUE(bit(model.cpuid(7, 0, state).ebx, 7));
  EXPECT_TRUE(bit(model.cpuid(7, 0, state).ebx, 20));
  EXPECT_TRUE(bit(model.cpuid(1, 0, state).ecx, 21));  // x2APIC
  EXPECT_TRUE(bit(model.cpuid(1, 0, state).ecx, 24));  // TSC deadline
  EXPECT_TRUE(bit(model.cpuid(6, 0, state).eax, 2));   // ARAT
  EXPECT_TRUE(bit(model.cpuid(0x80000007, 0, state).edx, 8));
  constexpr u64 kBits = x86::Cr4::SMEP | x86::Cr4::SMAP | x86::Cr4::UMIP | x86::Cr4::FSGSBASE;
  EXPECT_EQ(model.cr4_mask() & kBits, kBits);
}

TEST(Model, OsxsaveFollowsCr4) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  EXPECT_FALSE(bit(model.cpuid(1, 0, state).ecx, 27));
  state.cr4 |= x86::Cr4::OSXSAVE;
  EXPECT_TRUE(bit(model.cpuid(1, 0, state).ecx, 27));
}

TEST(Model, XsaveSizesFollowXcr0) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  state.xcr0 = 3;
  EXPECT_EQ(model.cpuid(0xd, 0, state).ebx, 576u);
  EXPECT_EQ(model.cpuid(0xd, 0, state).ecx, 2432u);
  state.xcr0 = 7;
  EXPECT_EQ(model.cpuid(0xd, 0, state).ebx, 832u);
  state.xcr0 = 0xe7;
  EXPECT_EQ(model.cpuid(0xd, 0, state).ebx, 2432u);
  EXPECT_EQ(model.cpuid(0xd, 1, state).ebx, 2432u);
  EXPECT_EQ(model.cpuid(0xd, 0, state).eax, 0xe7u);
  EXPECT_EQ(model.cpuid(0xd, 5, state), (CpuidLeaf{64, 832, 0, 0}));
  EXPECT_EQ(model.cpuid(0xd, 9, state), CpuidLeaf{});
}

TEST(Model, CompactedSizeLeavesNoGaps) {
  const Model model = make(intel_server(), Level::V4);
  State state;
  state.xcr0 = 0xe3;  // not a value XSETBV takes; the arithmetic is the point
  EXPECT_EQ(model.cpuid(0xd, 1, state).ebx, 576u + 64 + 512 + 1024);
  EXPECT_EQ(model.cpuid(0xd, 0, state).ebx, 1664u + 1024);
}

TEST(Model, Xcr0IsCheckedAsTheManualSays) {
  const Model model = make(amd_server(), Level::Host);
  for (const u64 good : {0x1u, 0x3u, 0x7u, 0xe7u}) EXPECT_TRUE(model.xcr0_valid(good)) << good;
  for (const u64 bad : {0x0u, 0x2u, 0x5u, 0x27u, 0xe3u, 0xc7u, 0x2e7u, 0x8u})
    EXPECT_FALSE(model.xcr0_valid(bad)) << bad;
}

TEST(Model, HalfAnAvx512IsNone) {
  InventedCpu host = amd_server();
  host.leaves[{7, 0}].ebx &= ~(1u << 31);  // VL
  const Model model = make(host, Level::Host);
  State state;
  EXPECT_EQ(model.xcr0_mask(), 7u);
  EXPECT_FALSE(bit(model.cpuid(7, 0, state).ebx, 16));
  EXPECT_FALSE(model.has(Feature::Avx512Vnni));
  EXPECT_TRUE(model.has(Feature::Vaes));
}

TEST(Model, FrequenciesAreExact) {
  const Model model = make(intel_server(), Level::Host);
  State state;
  const CpuidLeaf tsc = model.cpuid(0x15, 0, state);
  ASSERT_NE(tsc.eax, 0u);
  EXPECT_EQ(u64{tsc.ecx} * tsc.ebx / tsc.eax, 2'596'000'000u);
  EXPECT_EQ(tsc.ecx, 1'000'000'000u);
  EXPECT_EQ(model.cpuid(0x16, 0, state).eax, 2596u);
  const CpuidLeaf frequencies = model.cpuid(0x40000010, 0, state);
  EXPECT_EQ(frequencies.eax, 2'596'000u);
  EXPECT_EQ(frequencies.ebx, 1'000'000u);
  EXPECT_GE(model.cpuid(0, 0, state).eax, 0x16u);
}

TEST(Model, TheHypervisorLeavesAreKvms) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  const CpuidLeaf signature = model.cpuid(0x40000000, 0, state);
  char text[13] = {};
  std::memcpy(text, &signature.ebx, 12);
  EXPECT_STREQ(text, "KVMKVMKVM");
  EXPECT_GE(signature.eax, 0x40000010u);
  EXPECT_TRUE(bit(model.cpuid(0x40000001, 0, state).eax, 3));
  EXPECT_TRUE(bit(model.cpuid(0x40000001, 0, state).eax, 24));
  EXPECT_TRUE(bit(model.cpuid(0x40000001, 0, state).eax, 7));   // locks may wait in HLT
  EXPECT_TRUE(bit(model.cpuid(0x40000001, 0, state).eax, 11));  // one call for many IPIs
  EXPECT_FALSE(bit(model.cpuid(0x40000001, 0, state).eax, 0));  // the old clock's MSRs are not there
  EXPECT_TRUE(bit(model.cpuid(1, 0, state).ecx, 31));
}

TEST(Model, LeavesBeyondTheMaximaAreZero) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  for (const u32 leaf :
       {0x17u, 0x1fu, 0x20u, 0x3fffffffu, 0x40000011u, 0x80000022u, 0x8fffffffu, 0xffffffffu}) {
    EXPECT_EQ(model.cpuid(leaf, 0, state), CpuidLeaf{}) << std::hex << leaf;
  }
  EXPECT_EQ(model.cpuid(0x80000000, 0, state).eax, 0x80000021u);
  EXPECT_EQ(make(intel_server(), Level::Host).cpuid(0x80000000, 0, state).eax, 0x80000008u);
}

TEST(Model, AmdRepeatsLeafOneInTheExtendedLeaf) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  const u32 one = model.cpuid(1, 0, state).edx;
  const u32 extended = model.cpuid(0x80000001, 0, state).edx;
  constexpr u32 kShared = 0x0183f3ff;
  EXPECT_EQ(one & kShared, extended & kShared);
  EXPECT_TRUE(bit(extended, 29));  // LM
  EXPECT_TRUE(bit(extended, 11));  // SYSCALL
}

TEST(Model, TopologyIsOneThreadACore) {
  Model::Options options;
  options.processors = 6;
  options.apic_id = 5;
  auto model = Model::create(amd_server(), options);
  ASSERT_TRUE(model.ok());
  State state;
  EXPECT_EQ(model->cpuid(1, 0, state).ebx >> 24, 5u);
  EXPECT_EQ(model->cpuid(1, 0, state).ebx >> 16 & 0xff, 6u);
  EXPECT_TRUE(bit(model->cpuid(1, 0, state).edx, 28));
  EXPECT_EQ(model->cpuid(0xb, 0, state), (CpuidLeaf{0, 1, 0x100, 5}));
  EXPECT_EQ(model->cpuid(0xb, 1, state), (CpuidLeaf{3, 6, 0x201, 5}));
  EXPECT_EQ(model->cpuid(0x80000008, 0, state).ecx, 3u << 12 | 5u);
  EXPECT_EQ(model->cpuid(0x8000001e, 0, state).eax, 5u);
}

TEST(Model, ImpossibleTopologiesAreErrors) {
  Model::Options options;
  options.processors = 0;
  EXPECT_FALSE(Model::create(amd_server(), options).ok());
  options.processors = 256;
  EXPECT_FALSE(Model::create(amd_server(), options).ok());
  options.processors = 2;
  options.apic_id = 2;
  EXPECT_FALSE(Model::create(amd_server(), options).ok());
}

// docs/adr/0002.
TEST(Model, ATranslatedAmdGuestNeedsNoReturnOrIndirectBranchThunks) {
  const Model model = make(amd_server(), Level::Host);
  State state;
  EXPECT_TRUE(bit(model.cpuid(0x80000021, 0, state).eax, 8));    // AutomaticIBRS
  EXPECT_TRUE(bit(model.cpuid(0x80000021, 0, state).eax, 29));   // SRSO_NO
  EXPECT_TRUE(bit(model.cpuid(0x80000008, 0, state).ebx, 29));   // BTC_NO
  EXPECT_FALSE(bit(model.cpuid(0x80000008, 0, state).ebx, 12));  // IBPB
  EXPECT_NE(model.efer_mask() & u64{1} << 21, 0u);
  EXPECT_EQ(model.spec_ctrl_mask(), 0u);
  u64 value = 0;
  EXPECT_FALSE(model.msr_read(0x10a, value));
}

TEST(Model, ATranslatedIntelGuestReadsArchCapabilities) {
  const Model model = make(intel_server(), Level::Host);
  u64 value = 0;
  ASSERT_TRUE(model.msr_read(0x10a, value));
  EXPECT_TRUE(value & 1);        // RDCL_NO
  EXPECT_TRUE(value & 2);        // IBRS_ALL
  EXPECT_FALSE(value & 1 << 4);  // SSB_NO is the host's to say
  EXPECT_EQ(model.spec_ctrl_mask(), 1u);
  EXPECT_TRUE(model.msr_write_ignored(0x49, 1));
  EXPECT_FALSE(model.msr_write_ignored(0x49, 2));
}

TEST(Model, AGuestThatRunsDirectlyIsToldNothingOfTheKind) {
  Model::Options options;
  options.execution = Execution::Direct;
  State state;
  auto amd = Model::create(amd_server(), options);
  ASSERT_TRUE(amd.ok());
  EXPECT_FALSE(bit(amd->cpuid(0x80000021, 0, state).eax, 29));
  auto intel = Model::create(intel_server(), options);
  ASSERT_TRUE(intel.ok());
  u64 value = 0;
  EXPECT_FALSE(intel->msr_read(0x10a, value));
}

TEST(Model, MsrsThatLinuxReadsEarlyExist) {
  const Model amd = make(amd_server(), Level::Host);
  u64 value = 0;
  EXPECT_TRUE(amd.msr_read(0x8b, value));
  EXPECT_NE(value, 0u);
  EXPECT_TRUE(amd.msr_read(0xc0010015, value));
  EXPECT_TRUE(value & 1 << 24);
  EXPECT_TRUE(amd.msr_read(0xc0011029, value));
  EXPECT_TRUE(value & 2);
  EXPECT_FALSE(amd.msr_read(0xdeadbeef, value));
  const Model intel = make(intel_server(), Level::Host);
  EXPECT_FALSE(intel.msr_read(0xc0010015, value));
  EXPECT_TRUE(intel.msr_read(0x17, value));
}

TEST(Model, ANamedModelDoesNotCarryTheHostsName) {
  InventedCpu host = amd_server();
  std::memcpy(&host.leaves[{0x80000002, 0}], "AMD EPYC 9999   ", 16);
  State state;
  char text[49] = {};
  const auto read = [&](const Model& model) {
    for (u32 i = 0; i < 3; ++i) {
      const CpuidLeaf leaf = model.cpuid(0x80000002 + i, 0, state);
      std::memcpy(text + 16 * i, &leaf, 16);
    }
    return std::string(text);
  };
  EXPECT_EQ(read(make(host, Level::Host)), "AMD EPYC 9999   ");
  EXPECT_EQ(read(make(host, Level::V3)), "Nacre virtual processor x86-64-v3");
}

// On whatever machine this runs.
TEST(Model, TheRealHostIsConsistent) {
  const NativeCpuid host;
  const Model model = make(host, Level::Host);
  State state;
  state.xcr0 = model.xcr0_mask() | 1;
  const XsaveLayout& layout = model.xsave();
  EXPECT_EQ(model.xcr0_mask() & ~layout.components, 0u);
  EXPECT_LE(layout.standard_bytes(layout.components), kXsaveBytes);
  // With all that the host's system enabled, our size is the host's, when we know all components.
  if (host.xcr0() == layout.components) {
    EXPECT_EQ(layout.standard_bytes(host.xcr0()), host.leaf(0xd, 0).ebx);
  }
  // No instruction set without those it builds on.
  const auto implies = [&](Feature a, Feature b) {
    EXPECT_TRUE(!model.has(a) || model.has(b)) << int(a) << " without " << int(b);
  };
  implies(Feature::Avx, Feature::Xsave);
  implies(Feature::Avx2, Feature::Avx);
  implies(Feature::Fma, Feature::Avx);
  implies(Feature::F16c, Feature::Avx);
  implies(Feature::Avx512f, Feature::Avx2);
  implies(Feature::Avx512bw, Feature::Avx512f);
  implies(Feature::Avx512Vbmi2, Feature::Avx512bw);
  implies(Feature::Xsavec, Feature::Xsave);
  implies(Feature::Sse4_2, Feature::Sse4_1);
  implies(Feature::Sse2, Feature::Sse);
  implies(Feature::Vaes, Feature::Avx);
  // Instruction-set bits are the host's.
  const CpuidLeaf ours = model.cpuid(1, 0, state);
  constexpr u32 kOurs = 1u << 21 | 1u << 24 | 1u << 30 | 1u << 31;
  EXPECT_EQ(ours.ecx & ~kOurs & ~host.leaf(1, 0).ecx, 0u);
  EXPECT_EQ(model.cpuid(0x80000008, 0, state).eax & 0xff, kPhysicalAddressBits);
}

TEST(Model, ProtectionKeysAreThereWhereTheyAreAskedFor) {
  constexpr unsigned kPku = 3, kOspke = 4;
  const InventedCpu host = amd_server();
  State state;
  Model::Options options;
  const auto without = Model::create(host, options);
  ASSERT_TRUE(without.ok());
  EXPECT_FALSE(bit(without.value().cpuid(7, 0, state).ecx, kPku));
  EXPECT_EQ(without.value().cr4_mask() & x86::Cr4::PKE, 0u);

  options.protection_keys = true;
  const auto with = Model::create(host, options);
  ASSERT_TRUE(with.ok()) << with.error().message();
  EXPECT_TRUE(bit(with.value().cpuid(7, 0, state).ecx, kPku));
  EXPECT_FALSE(bit(with.value().cpuid(7, 0, state).ecx, kOspke));
  state.cr4 |= x86::Cr4::PKE;
  EXPECT_TRUE(bit(with.value().cpuid(7, 0, state).ecx, kOspke));
  EXPECT_EQ(with.value().cr4_mask() & x86::Cr4::PKE, x86::Cr4::PKE);
  EXPECT_EQ(with.value().xcr0_mask(), without.value().xcr0_mask() | Xcr0::PKRU);
  // Behind all other components, and no bit of XCR0 alone makes the area too small for it.
  const CpuidLeaf keys = with.value().cpuid(0xd, 9, state);
  EXPECT_EQ(keys.eax, 8u);
  EXPECT_GE(keys.ebx, without.value().cpuid(0xd, 0, state).ecx);
  EXPECT_EQ(with.value().cpuid(0xd, 0, state).ecx, keys.ebx + 8);

  options.level = Level::V2;
  EXPECT_FALSE(Model::create(host, options).ok());
  options.level = Level::Host;
  options.execution = Execution::Direct;
  EXPECT_FALSE(Model::create(host, options).ok());
}

}  // namespace
}  // namespace nacre::cpu
