// The page walker on tables written by hand: each format, each permission bit, accessed and dirty bits,
// error codes.
#include "cpu/mmu.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace nacre::cpu {
namespace {

using x86::Cr0;
using x86::Cr4;
using x86::Efer;
using x86::PageFaultCode;
using x86::Pte;
using x86::Rflags;

constexpr u64 kTop = 0x1000, kSecond = 0x2000, kThird = 0x3000, kFourth = 0x4000;
constexpr u64 kAll = Pte::P | Pte::RW | Pte::US;
constexpr u64 kPageBit21 = u64{1} << 21;

struct Observer final : TranslationObserver {
  void flush_all() override {}
  void flush_non_global() override {}
  void flush_page(GuestLinear) override {}
  void code_written(GuestPhysical address, usize) override { written.push_back(address.value()); }
  std::vector<u64> written;
};

class Mmu : public ::testing::Test {
 protected:
  Mmu() : ram_(0x10000), flags_(16) {
    EXPECT_TRUE(memory_.add_ram(GuestPhysical(0), ram_.size(), ram_.data(), flags_.data()).ok());
    state_.cr0 = Cr0::PE | Cr0::PG | Cr0::WP;
    state_.cr3 = kTop;
  }

  template <typename T>
  void put(u64 address, T value) {
    std::memcpy(&ram_[address], &value, sizeof value);
  }
  template <typename T>
  T get(u64 address) {
    T value;
    std::memcpy(&value, &ram_[address], sizeof value);
    return value;
  }

  // 4-level tables that map linear 0x12345000 with these leaf bits; upper levels allow everything.
  void map_long(u64 leaf, u64 upper = kAll) {
    state_.cr4 |= Cr4::PAE;
    state_.efer |= Efer::LME | Efer::LMA;
    put<u64>(kTop, kSecond | upper);
    put<u64>(kSecond, kThird | kAll);
    put<u64>(kThird + (kLinear >> 21 & 0x1ff) * 8, kFourth | kAll);
    put<u64>(leaf_address(), leaf);
  }
  static u64 leaf_address() { return kFourth + (kLinear >> 12 & 0x1ff) * 8; }

  auto walk_to(AccessType type, Privilege privilege, u64 linear = kLinear) {
    return walk(state_, memory_, &observer_, GuestLinear(linear), type, privilege);
  }
  void expect_fault(AccessType type, Privilege privilege, u32 code, u64 linear = kLinear) {
    const auto result = walk_to(type, privilege, linear);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().error_code, code);
    EXPECT_EQ(result.error().address.value(), linear);
  }
  void expect_page(AccessType type, Privilege privilege, u64 physical, u64 linear = kLinear) {
    const auto result = walk_to(type, privilege, linear);
    ASSERT_TRUE(result.ok()) << std::hex << result.error().error_code;
    EXPECT_EQ(result.value().address.value(), physical);
  }

  static constexpr u64 kLinear = 0x12345678;
  std::vector<u8> ram_, flags_;
  memory::AddressSpace memory_;
  State state_;
  Observer observer_;
};

TEST_F(Mmu, NoPagingIsTheIdentityOver32Bits) {
  state_.cr0 = Cr0::PE;
  expect_page(AccessType::Write, Privilege::User, 0x12345678);
}

TEST_F(Mmu, FourLevelPage) {
  map_long(0x7000 | kAll);
  expect_page(AccessType::Read, Privilege::User, 0x7678);
  EXPECT_EQ(get<u64>(leaf_address()), 0x7000 | kAll | Pte::A);
  EXPECT_EQ(get<u64>(kTop), kSecond | kAll | Pte::A);
  expect_page(AccessType::Write, Privilege::User, 0x7678);
  EXPECT_EQ(get<u64>(leaf_address()), 0x7000 | kAll | Pte::A | Pte::D);
}

TEST_F(Mmu, WritableOnlyOnceDirty) {
  map_long(0x7000 | kAll);
  EXPECT_FALSE(walk_to(AccessType::Read, Privilege::User).value().writable);
  EXPECT_TRUE(walk_to(AccessType::Write, Privilege::User).value().writable);
  EXPECT_TRUE(walk_to(AccessType::Read, Privilege::User).value().writable);
}

TEST_F(Mmu, AFaultMarksNothing) {
  map_long(0x7000 | Pte::P | Pte::US);
  expect_fault(AccessType::Write, Privilege::User, PageFaultCode::P | PageFaultCode::W | PageFaultCode::U);
  EXPECT_EQ(get<u64>(leaf_address()), 0x7000 | Pte::P | Pte::US);
  EXPECT_EQ(get<u64>(kTop), kSecond | kAll);
}

TEST_F(Mmu, AGlanceMarksNothingAndSeesNothingThatIsNotMarked) {
  map_long(0x7000 | kAll);
  const auto see = [this] {
    return glance(state_, memory_, GuestLinear(kLinear), AccessType::Execute, Privilege::User);
  };
  EXPECT_FALSE(see().ok());
  EXPECT_EQ(get<u64>(leaf_address()), 0x7000 | kAll);
  EXPECT_EQ(get<u64>(kTop), kSecond | kAll);
  expect_page(AccessType::Read, Privilege::User, 0x7678);
  EXPECT_EQ(see().value().address.value(), 0x7678U);
  put<u64>(kSecond, kThird | kAll);
  EXPECT_FALSE(see().ok());
  EXPECT_EQ(get<u64>(kSecond), kThird | kAll);
}

TEST_F(Mmu, NotPresentAtEachLevel) {
  map_long(0);
  expect_fault(AccessType::Read, Privilege::Supervisor, 0);
  put<u64>(kThird + (kLinear >> 21 & 0x1ff) * 8, 0);
  expect_fault(AccessType::Write, Privilege::User, PageFaultCode::W | PageFaultCode::U);
  put<u64>(kTop, 0);
  expect_fault(AccessType::Read, Privilege::User, PageFaultCode::U);
}

TEST_F(Mmu, UserNeedsTheBitAtEveryLevel) {
  map_long(0x7000 | kAll, Pte::P | Pte::RW);
  expect_fault(AccessType::Read, Privilege::User, PageFaultCode::P | PageFaultCode::U);
  expect_page(AccessType::Read, Privilege::Supervisor, 0x7678);
}

TEST_F(Mmu, WriteProtectIsForSupervisorsOnlyWithWp) {
  map_long(0x7000 | Pte::P);
  expect_fault(AccessType::Write, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::W);
  state_.cr0 &= ~Cr0::WP;
  expect_page(AccessType::Write, Privilege::Supervisor, 0x7678);
}

TEST_F(Mmu, NoExecute) {
  map_long(0x7000 | kAll | Pte::NX);
  // Reserved while EFER.NXE is clear.
  expect_fault(AccessType::Read, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::RSVD);
  state_.efer |= Efer::NXE;
  expect_page(AccessType::Read, Privilege::Supervisor, 0x7678);
  expect_fault(AccessType::Execute, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::I);
  expect_fault(AccessType::Execute, Privilege::User, PageFaultCode::P | PageFaultCode::I | PageFaultCode::U);
  EXPECT_FALSE(walk_to(AccessType::Read, Privilege::Supervisor).value().executable);
}

TEST_F(Mmu, SmepKeepsSupervisorsOffUserCode) {
  map_long(0x7000 | kAll);
  expect_page(AccessType::Execute, Privilege::Supervisor, 0x7678);
  state_.cr4 |= Cr4::SMEP;
  expect_fault(AccessType::Execute, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::I);
  expect_page(AccessType::Execute, Privilege::User, 0x7678);
}

TEST_F(Mmu, SmapKeepsSupervisorsOffUserDataUnlessAc) {
  map_long(0x7000 | kAll);
  state_.cr4 |= Cr4::SMAP;
  expect_fault(AccessType::Read, Privilege::Supervisor, PageFaultCode::P);
  expect_fault(AccessType::Write, Privilege::Implicit, PageFaultCode::P | PageFaultCode::W);
  state_.rflags |= Rflags::AC;
  expect_page(AccessType::Read, Privilege::Supervisor, 0x7678);
  expect_fault(AccessType::Read, Privilege::Implicit, PageFaultCode::P);
  expect_page(AccessType::Read, Privilege::User, 0x7678);
}

TEST_F(Mmu, LargePages) {
  map_long(0);
  put<u64>(kThird + (kLinear >> 21 & 0x1ff) * 8, 0x40000000 | kAll | Pte::PS);
  const auto two_mib = walk_to(AccessType::Write, Privilege::User);
  ASSERT_TRUE(two_mib.ok());
  EXPECT_EQ(two_mib.value().address.value(), 0x40000000 + (kLinear & 0x1fffff));
  EXPECT_EQ(two_mib.value().page_bytes, 2 * kMiB);

  put<u64>(kSecond, u64{1} << 30 | kAll | Pte::PS);
  const auto one_gib = walk_to(AccessType::Read, Privilege::User);
  ASSERT_TRUE(one_gib.ok());
  EXPECT_EQ(one_gib.value().address.value(), kGiB + kLinear);
  EXPECT_EQ(one_gib.value().page_bytes, kGiB);
}

TEST_F(Mmu, ReservedBits) {
  map_long(0x7000 | kAll | u64{1} << kPhysicalAddressBits);
  expect_fault(AccessType::Read, Privilege::User, PageFaultCode::P | PageFaultCode::RSVD | PageFaultCode::U);
  map_long(0x7000 | kAll, kAll | Pte::PS);  // PS in a PML4 entry
  expect_fault(AccessType::Read, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::RSVD);
  map_long(0x7000 | kAll);
  put<u64>(kThird + (kLinear >> 21 & 0x1ff) * 8, 0x40002000 | kAll | Pte::PS);  // 2 MiB frame not aligned
  expect_fault(AccessType::Read, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::RSVD);
}

TEST_F(Mmu, GlobalOnlyWithPge) {
  map_long(0x7000 | kAll | Pte::G);
  EXPECT_FALSE(walk_to(AccessType::Read, Privilege::User).value().global);
  state_.cr4 |= Cr4::PGE;
  EXPECT_TRUE(walk_to(AccessType::Read, Privilege::User).value().global);
}

TEST_F(Mmu, TableOutsideRamReadsAsOnes) {
  map_long(0x7000 | kAll);
  state_.cr3 = 0x100000;
  expect_fault(AccessType::Read, Privilege::Supervisor, PageFaultCode::P | PageFaultCode::RSVD);
}

TEST_F(Mmu, MarkingTellsWhoTranslatedTheTable) {
  map_long(0x7000 | kAll);
  flags_[kFourth >> 12] = memory::PageFlag::code;
  expect_page(AccessType::Read, Privilege::User, 0x7678);
  ASSERT_EQ(observer_.written.size(), 1u);
  EXPECT_EQ(observer_.written[0], leaf_address());
  EXPECT_NE(flags_[kFourth >> 12] & memory::PageFlag::dirty, 0);
}

TEST_F(Mmu, TwoLevel) {
  put<u32>(kTop + (kLinear >> 22) * 4, static_cast<u32>(kSecond | kAll));
  put<u32>(kSecond + (kLinear >> 12 & 0x3ff) * 4, static_cast<u32>(0x7000 | Pte::P | Pte::RW));
  expect_page(AccessType::Write, Privilege::Supervisor, 0x7678);
  EXPECT_EQ(get<u32>(kSecond + (kLinear >> 12 & 0x3ff) * 4), 0x7000 | Pte::P | Pte::RW | Pte::A | Pte::D);
  expect_fault(AccessType::Read, Privilege::User, PageFaultCode::P | PageFaultCode::U);
  // No NX in this format: fetches have no I bit in the error code either.
  expect_fault(AccessType::Execute, Privilege::User, PageFaultCode::P | PageFaultCode::U);
}

TEST_F(Mmu, TwoLevelLargePageNeedsPse) {
  put<u32>(kTop + (kLinear >> 22) * 4, static_cast<u32>(0x00400000 | 3 << 13 | kAll | Pte::PS));
  state_.cr4 = Cr4::PSE;
  const auto result = walk_to(AccessType::Read, Privilege::User);
  ASSERT_TRUE(result.ok());
  EXPECT_EQ(result.value().address.value(), (u64{3} << 32 | 0x00400000) + (kLinear & 0x3fffff));
  EXPECT_EQ(result.value().page_bytes, 4 * kMiB);
  put<u32>(kTop + (kLinear >> 22) * 4, static_cast<u32>(0x00400000 | kPageBit21 | kAll | Pte::PS));
  expect_fault(AccessType::Read, Privilege::User, PageFaultCode::P | PageFaultCode::RSVD | PageFaultCode::U);
}

TEST_F(Mmu, Pae) {
  state_.cr4 = Cr4::PAE;
  state_.efer = Efer::NXE;
  state_.pdpte[0] = kSecond | Pte::P;
  put<u64>(kSecond + (kLinear >> 21 & 0x1ff) * 8, kThird | kAll);
  put<u64>(kThird + (kLinear >> 12 & 0x1ff) * 8, 0x7000 | kAll | Pte::NX);
  expect_page(AccessType::Write, Privilege::User, 0x7678);
  expect_fault(AccessType::Execute, Privilege::User, PageFaultCode::P | PageFaultCode::U | PageFaultCode::I);
  state_.pdpte[0] = 0;
  expect_fault(AccessType::Read, Privilege::Supervisor, 0);
}

TEST_F(Mmu, protection_keys_are_about_data_of_user_pages) {
  constexpr u64 kKey = u64{5} << 59;
  constexpr u32 kNoAccess = 1 << 10, kNoWrites = 2 << 10;
  map_long(0x8000 | kAll | Pte::D | kKey);
  state_.pkru = kNoAccess | kNoWrites;
  const auto ask = [this](AccessType type, Privilege privilege) {
    const auto result = walk(state_, memory_, nullptr, GuestLinear(kLinear), type, privilege);
    return result ? 0u : result.error().error_code;
  };
  EXPECT_EQ(ask(AccessType::Write, Privilege::User), 0u);  // CR4.PKE is clear
  state_.cr4 |= Cr4::PKE;
  constexpr u32 key = PageFaultCode::P | PageFaultCode::PK;
  EXPECT_EQ(ask(AccessType::Read, Privilege::User), key | PageFaultCode::U);
  EXPECT_EQ(ask(AccessType::Read, Privilege::Supervisor), key);
  EXPECT_EQ(ask(AccessType::Execute, Privilege::User), 0u);
  state_.pkru = kNoWrites;
  EXPECT_EQ(ask(AccessType::Read, Privilege::User), 0u);
  EXPECT_FALSE(walk(state_, memory_, nullptr, GuestLinear(kLinear), AccessType::Read, Privilege::User).value().writable);
  EXPECT_EQ(ask(AccessType::Write, Privilege::User), key | PageFaultCode::U | PageFaultCode::W);
  EXPECT_EQ(ask(AccessType::Write, Privilege::Supervisor), key | PageFaultCode::W);
  state_.cr0 &= ~Cr0::WP;
  EXPECT_EQ(ask(AccessType::Write, Privilege::Supervisor), 0u);
  state_.pkru = ~(3u << 10);
  EXPECT_EQ(ask(AccessType::Write, Privilege::User), 0u);  // the other keys'
}

}  // namespace
}  // namespace nacre::cpu
