#include "engine/kvm/system.hpp"

#include <gtest/gtest.h>

namespace nacre::kvm {
namespace {

class Processor final : public cpu::HostCpuid {
 public:
  explicit Processor(u32 leaf_7_ecx) : leaf_7_ecx_(leaf_7_ecx) {}
  [[nodiscard]] cpu::CpuidLeaf leaf(u32 leaf, u32 subleaf) const override {
    return leaf == 7 && subleaf == 0 ? cpu::CpuidLeaf{.ecx = leaf_7_ecx_} : cpu::CpuidLeaf{};
  }
  [[nodiscard]] u64 xcr0() const override { return 0; }

 private:
  u32 leaf_7_ecx_;
};

constexpr u32 kUmip = 1 << 2, kRdpid = 1 << 22;

constexpr kvm_cpuid_entry2 entry(u32 leaf, u32 subleaf, u32 ecx) {
  kvm_cpuid_entry2 entry = {};
  entry.function = leaf;
  entry.index = subleaf;
  entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  entry.ecx = ecx;
  return entry;
}
constexpr kvm_cpuid_entry2 kOffered[] = {entry(1, 0, kUmip), entry(7, 0, kUmip | kRdpid), entry(7, 1, kUmip)};

// KVM offers UMIP on processors without it, though SMSW is then let through.
TEST(KvmCpuid, umip_that_only_kvm_has_is_not_claimed) {
  const Cpuid without(kOffered, Processor(0));
  EXPECT_EQ(without.leaf(7, 0).ecx, kRdpid);
  EXPECT_EQ(without.leaf(7, 1).ecx, kUmip);  // another feature's bit
  EXPECT_EQ(without.leaf(1, 0).ecx, kUmip);
  EXPECT_EQ(Cpuid(kOffered, Processor(kUmip)).leaf(7, 0).ecx, kUmip | kRdpid);
}

}  // namespace
}  // namespace nacre::kvm
