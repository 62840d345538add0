// The host's own instructions say what the images must look like.
#include "interp/vector_state.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace nacre::interp {
namespace {

using cpu::XsaveLayout;
using x86::Operation;
using x86::Vector;
using Kind = VectorResult::Kind;

constexpr usize kArea = 4096;

// Guest memory that ends somewhere.
class Memory final : public VectorMemory {
 public:
  bool read(u64 offset, void* to, unsigned bytes) override {
    if (offset + bytes > limit) return false;
    std::memcpy(to, data + offset, bytes);
    return true;
  }
  bool write(u64 offset, const void* from, unsigned bytes) override {
    if (offset + bytes > limit) return false;
    std::memcpy(data + offset, from, bytes);
    return true;
  }
  bool probe_write(u64 offset, unsigned bytes) override { return offset + bytes <= limit; }

  alignas(64) u8 data[kArea] = {};
  u64 limit = kArea;
};

class VectorState : public ::testing::Test {
 protected:
  VectorState() : model_(make_model()) {
    state_.cr0 |= x86::Cr0::PE;
    state_.efer = x86::Efer::LMA;
    state_.segment[x86::CS].attributes = cpu::SegmentAttributes::L;
    state_.xcr0 = model_.xcr0_mask();
    state_.gpr[x86::RAX] = state_.gpr[x86::RDX] = ~u64{0};
    for (usize i = 0; i < cpu::kXsaveBytes; ++i) state_.xsave[i] = static_cast<u8>(random_());
    std::memset(state_.xsave + 512, 0, 64);
    put16(state_.xsave, 0x37f);  // no unmasked exceptions
    put16(state_.xsave + 2, 0);
    state_.xsave[5] = 0;
    put16(state_.xsave + 6, 0);
    std::memset(state_.xsave + 8, 0, 16);
    put32(state_.xsave + 24, 0x1fa0);
    for (int i = 0; i < 8; ++i) std::memset(state_.xsave + 32 + 16 * i + 10, 0, 6);
    put64(state_.xsave + 512, state_.xcr0);
  }

  static cpu::Model make_model() {
    auto model = cpu::Model::create(cpu::NativeCpuid(), {});
    return model.take();
  }
  static void put16(u8* at, u16 value) { std::memcpy(at, &value, 2); }
  static void put32(u8* at, u32 value) { std::memcpy(at, &value, 4); }
  static void put64(u8* at, u64 value) { std::memcpy(at, &value, 8); }
  static u64 get64(const u8* at) {
    u64 value = 0;
    std::memcpy(&value, at, 8);
    return value;
  }

  VectorResult run(Operation operation, u64 offset = 0) {
    info_.operation = operation;
    instruction_.info = &info_;
    instruction_.w = true;
    return run_state_image(state_, instruction_, offset, memory_, model_);
  }
  // The host's XSAVE of what XRSTOR loads from `image`.
  void host_round_trip(const u8* image, u8* out, bool compacted) const {
    alignas(64) static u8 before[kArea];
    alignas(64) static u8 after[kArea];
    std::memcpy(before, image, kArea);
    std::memset(after, 0, sizeof after);
    const u32 low = static_cast<u32>(state_.xcr0);
    alignas(64) static u8 host[kArea];
    std::memset(host, 0, sizeof host);
    if (compacted) {
      asm volatile("xsave64 %0\n\txrstor64 %2\n\txsavec64 %1\n\txrstor64 %0"
                   : "+m"(host), "+m"(after)
                   : "m"(before), "a"(low), "d"(0)
                   : "memory");
    } else {
      asm volatile("xsave64 %0\n\txrstor64 %2\n\txsave64 %1\n\txrstor64 %0"
                   : "+m"(host), "+m"(after)
                   : "m"(before), "a"(low), "d"(0)
                   : "memory");
    }
    std::memcpy(out, after, kArea);
  }
  // MXCSR_MASK is the model's, not the host's.
  static void expect_same(const u8* ours, const u8* hosts, usize bytes) {
    for (usize i = 0; i < bytes; ++i) {
      if (i >= XsaveLayout::kMxcsrMask && i < XsaveLayout::kSt) continue;
      EXPECT_EQ(ours[i], hosts[i]) << "byte " << i;
    }
  }

  std::mt19937_64 random_{7};
  cpu::Model model_;
  cpu::State state_;
  Memory memory_;
  x86::OpcodeInfo info_;
  x86::Instruction instruction_;
};

TEST_F(VectorState, XsaveWritesWhatTheHostWrites) {
  ASSERT_EQ(run(Operation::Xsave).kind, Kind::Done);
  alignas(64) u8 image[kArea] = {};
  std::memcpy(image, state_.xsave, cpu::kXsaveBytes);
  alignas(64) u8 hosts[kArea];
  host_round_trip(image, hosts, false);
  expect_same(memory_.data, hosts, model_.xsave().standard_bytes(state_.xcr0));
}

TEST_F(VectorState, XsavecLeavesNoGapsAsTheHostDoes) {
  if (!model_.has(x86::Feature::Xsavec)) GTEST_SKIP();
  if ((cpu::NativeCpuid().leaf(0xd, 1).eax & 2) == 0) GTEST_SKIP() << "the host has no xsavec";
  ASSERT_EQ(run(Operation::Xsavec).kind, Kind::Done);
  alignas(64) u8 image[kArea] = {};
  std::memcpy(image, state_.xsave, cpu::kXsaveBytes);
  alignas(64) u8 hosts[kArea];
  host_round_trip(image, hosts, true);
  expect_same(memory_.data, hosts, model_.xsave().compacted_bytes(state_.xcr0));
}

TEST_F(VectorState, SavedAndRestoredIsTheSame) {
  for (const Operation save : {Operation::Xsave, Operation::Xsaveopt, Operation::Xsavec}) {
    std::memset(memory_.data, 0, sizeof memory_.data);
    ASSERT_EQ(run(save).kind, Kind::Done);
    const cpu::State before = state_;
    std::memset(state_.xsave, 0xff, sizeof state_.xsave);
    std::memset(state_.xsave + 512, 0, 64);
    ASSERT_EQ(run(Operation::Xrstor).kind, Kind::Done);
    for (usize i = 0; i < model_.xsave().standard_bytes(state_.xcr0); ++i) {
      if (i >= XsaveLayout::kMxcsrMask && i < XsaveLayout::kSt) continue;
      if (i >= 416 && i < 512) continue;  // not used by the processor
      ASSERT_EQ(state_.xsave[i], before.xsave[i]) << "byte " << i;
    }
  }
}

TEST_F(VectorState, ComponentsNotInTheImageAreInitialised) {
  ASSERT_EQ(run(Operation::Xsave).kind, Kind::Done);
  put64(memory_.data + 512, 1);
  ASSERT_EQ(run(Operation::Xrstor).kind, Kind::Done);
  EXPECT_EQ(get64(state_.xsave + XsaveLayout::kXmm), 0u);
  EXPECT_EQ(get64(state_.xsave + XsaveLayout::kSt), get64(memory_.data + XsaveLayout::kSt));
  EXPECT_EQ(get64(state_.xsave + 512) & 7, 1u);
  // The standard format loads MXCSR whatever XSTATE_BV says.
  u32 mxcsr = 0;
  std::memcpy(&mxcsr, state_.xsave + 24, 4);
  EXPECT_EQ(mxcsr, 0x1fa0u);
}

TEST_F(VectorState, OnlyWhatIsAskedForMoves) {
  state_.gpr[x86::RAX] = 2;
  state_.gpr[x86::RDX] = 0;
  std::memset(memory_.data, 0xaa, sizeof memory_.data);
  ASSERT_EQ(run(Operation::Xsave).kind, Kind::Done);
  EXPECT_EQ(memory_.data[0], 0xaa);
  EXPECT_EQ(memory_.data[576], 0xaa);
  EXPECT_EQ(get64(memory_.data + XsaveLayout::kXmm), get64(state_.xsave + XsaveLayout::kXmm));
  EXPECT_EQ(memory_.data[512] & 3, 2);
}

TEST_F(VectorState, BadImagesAreProtectionFaults) {
  const auto faults = [&] {
    const VectorResult result = run(Operation::Xrstor);
    return result.kind == Kind::Exception && result.vector == Vector::GP;
  };
  const auto with = [&](usize at, u8 value) {
    const u8 before = memory_.data[at];
    memory_.data[at] = value;
    const bool fault = faults();
    memory_.data[at] = before;
    return fault;
  };
  ASSERT_EQ(run(Operation::Xsave).kind, Kind::Done);
  EXPECT_FALSE(faults());
  EXPECT_TRUE(with(513, 1));  // a component that is not enabled
  EXPECT_TRUE(with(520, 1));  // XCOMP_BV without its bit 63
  EXPECT_TRUE(with(528, 1));  // reserved
  EXPECT_TRUE(with(26, 1));   // MXCSR
  EXPECT_EQ(run(Operation::Xrstor, 32).vector, Vector::GP);
  EXPECT_EQ(run(Operation::Fxsave, 8).vector, Vector::GP);
}

TEST_F(VectorState, AFaultLeavesTheStateAsItWas) {
  ASSERT_EQ(run(Operation::Xsave).kind, Kind::Done);
  std::memset(memory_.data + 32, 0x55, 300);
  memory_.limit = model_.xsave().standard_bytes(state_.xcr0) - 8;
  const cpu::State before = state_;
  EXPECT_EQ(run(Operation::Xrstor).kind, Kind::MemoryFault);
  EXPECT_EQ(std::memcmp(before.xsave, state_.xsave, sizeof state_.xsave), 0);
  std::memset(memory_.data, 0xcc, sizeof memory_.data);
  EXPECT_EQ(run(Operation::Xsave).kind, Kind::MemoryFault);
  EXPECT_EQ(memory_.data[0], 0xcc);
}

TEST_F(VectorState, FxsaveMovesTheLegacyRegion) {
  std::memset(memory_.data, 0xaa, sizeof memory_.data);
  ASSERT_EQ(run(Operation::Fxsave).kind, Kind::Done);
  EXPECT_EQ(memory_.data[415], state_.xsave[415]);
  EXPECT_EQ(memory_.data[416], 0xaa);
  u32 mask = 0;
  std::memcpy(&mask, memory_.data + 28, 4);
  EXPECT_EQ(mask, cpu::Model::kMxcsrMask);
  const cpu::State before = state_;
  std::memset(state_.xsave + 160, 0, 256);
  ASSERT_EQ(run(Operation::Fxrstor).kind, Kind::Done);
  EXPECT_EQ(std::memcmp(before.xsave + 160, state_.xsave + 160, 256), 0);
}

}  // namespace
}  // namespace nacre::interp
