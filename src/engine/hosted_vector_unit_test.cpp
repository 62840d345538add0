#include "engine/hosted_vector_unit.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <vector>

#include "cpu/xsave_layout.hpp"
#include "interp/vector_registers.hpp"
#include "x86/instruction.hpp"

namespace nacre::engine {
namespace {

using cpu::XsaveLayout;
using interp::VectorResult;
using x86::Vector;
using Kind = VectorResult::Kind;

// Guest memory of two pages, [0, 8 KiB), of which some may be out of bounds.
class Memory final : public interp::VectorMemory {
 public:
  bool read(u64 offset, void* to, unsigned bytes) override {
    if (!allowed(offset, bytes)) return false;
    std::memcpy(to, data + offset, bytes);
    return true;
  }
  bool write(u64 offset, const void* from, unsigned bytes) override {
    if (!allowed(offset, bytes)) return false;
    std::memcpy(data + offset, from, bytes);
    writes.push_back({offset, bytes});
    return true;
  }
  bool probe_write(u64 offset, unsigned bytes) override { return allowed(offset, bytes); }
  bool allowed(u64 offset, unsigned bytes) const { return offset >= first && offset + bytes <= limit; }

  struct Write {
    u64 offset;
    unsigned bytes;
    bool operator==(const Write&) const = default;
  };
  u8 data[2 * kPageSize] = {};
  u64 first = 0, limit = 2 * kPageSize;
  std::vector<Write> writes;
};

class HostedVector : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }

  HostedVector()
      : stack_(host::SignalStack::enter().take()),
        unit_(HostedVectorUnit::create().take()),
        scope_(*unit_),
        layout_(cpu::xsave_layout(cpu::NativeCpuid())) {
    state_.cr0 |= x86::Cr0::PE;
    state_.efer = x86::Efer::LMA;
    state_.segment[x86::CS].attributes = cpu::SegmentAttributes::L;
    state_.rip = 0x401000;
    for (unsigned i = 0; i < 16; ++i) state_.gpr[i] = 0x1111111111111111u * u64{i};
    put<u16>(state_.xsave + XsaveLayout::kFcw, 0x37f);
    put<u32>(state_.xsave + XsaveLayout::kMxcsr, 0x1f80);
    put<u64>(state_.xsave + XsaveLayout::kXstateBv, layout_.components & 0xe7);
  }

  template <typename T>
  static void put(u8* at, T value) {
    std::memcpy(at, &value, sizeof value);
  }
  template <typename T>
  static T take(const u8* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  u8* xmm(unsigned n) { return state_.xsave + XsaveLayout::kXmm + 16 * n; }
  u32 mxcsr() { return take<u32>(state_.xsave + XsaveLayout::kMxcsr); }
  void require(u64 components) {
    if ((layout_.components & components) != components) GTEST_SKIP() << "this host has no such registers";
  }

  VectorResult run(std::initializer_list<unsigned> code, u64 offset = 0) {
    std::vector<u8> bytes(code.begin(), code.end());
    bytes.resize(x86::kMaxInstructionLength);
    EXPECT_EQ(x86::decode(bytes.data(), bytes.size(), x86::CodeSize::Bits64, instruction_),
              x86::DecodeStatus::Ok);
    return unit_->unit().run(state_, instruction_, offset, memory_);
  }

  host::SignalStack stack_;
  std::unique_ptr<HostedVectorUnit> unit_;
  host::FaultScope scope_;
  XsaveLayout layout_;
  cpu::State state_;
  Memory memory_;
  x86::Instruction instruction_;
};

TEST_F(HostedVector, RegistersAndMemoryAreAdded) {
  for (unsigned i = 0; i < 4; ++i) {
    put<float>(xmm(1) + 4 * i, 1.5f);
    put<float>(memory_.data + 16 + 4 * i, static_cast<float>(i));
  }
  ASSERT_EQ(run({0x0f, 0x58, 0x0f}, 16).kind, Kind::Done);  // addps xmm1, [rdi]
  for (unsigned i = 0; i < 4; ++i) EXPECT_EQ(take<float>(xmm(1) + 4 * i), 1.5f + static_cast<float>(i));
  ASSERT_EQ(run({0x66, 0x44, 0x0f, 0x6f, 0xc1}).kind, Kind::Done);  // movdqa xmm8, xmm1
  EXPECT_EQ(std::memcmp(xmm(8), xmm(1), 16), 0);
}

TEST_F(HostedVector, EveryGeneralRegisterCanBeAnOperand) {
  for (unsigned reg = 0; reg < 16; ++reg) {
    const unsigned rex = 0x48 | (reg >> 3);
    put<u64>(xmm(3), 0xfeedface00000000 + reg);
    const cpu::State before = state_;
    ASSERT_EQ(run({0x66, rex, 0x0f, 0x7e, 0xd8 | (reg & 7)}).kind, Kind::Done);  // movq reg, xmm3
    for (unsigned i = 0; i < 16; ++i) {
      EXPECT_EQ(state_.gpr[i], i == reg ? 0xfeedface00000000 + reg : before.gpr[i]) << i;
    }
    ASSERT_EQ(run({0x66, rex, 0x0f, 0x6e, 0xe0 | (reg & 7)}).kind, Kind::Done);  // movq xmm4, reg
    EXPECT_EQ(take<u64>(xmm(4)), 0xfeedface00000000 + reg);
  }
}

TEST_F(HostedVector, ThreeGeneralRegistersAmongThemRspAndRdi) {
  if ((cpu::NativeCpuid().leaf(7, 0).ebx & 1 << 8) == 0) GTEST_SKIP() << "no BMI2";
  state_.gpr[x86::RSP] = 0xf0f0;
  state_.gpr[x86::RDI] = 0x00000000000000ff;
  ASSERT_EQ(run({0xc4, 0xe2, 0xdb, 0xf5, 0xef}).kind, Kind::Done);  // pdep rbp, rsp, rdi
  EXPECT_EQ(state_.gpr[x86::RBP], 0xf0u);
  ASSERT_EQ(run({0xc4, 0xe2, 0xd2, 0xf5, 0xe7}).kind, Kind::Done);  // pext rsp, rbp, rdi
  EXPECT_EQ(state_.gpr[x86::RSP], 0xf0u);
  EXPECT_EQ(state_.gpr[x86::RDI], 0xffu);
}

TEST_F(HostedVector, FlagsComeBack) {
  put<float>(xmm(0), 1.0f);
  put<float>(xmm(1), 2.0f);
  state_.rflags |= x86::Rflags::IF | x86::Rflags::OF;
  ASSERT_EQ(run({0x0f, 0x2e, 0xc1}).kind, Kind::Done);  // ucomiss xmm0, xmm1
  EXPECT_EQ(state_.rflags, x86::Rflags::fixed | x86::Rflags::IF | x86::Rflags::CF);
}

TEST_F(HostedVector, StoresAreProbedAndWritten) {
  put<u64>(xmm(2), 0x1122334455667788);
  put<u64>(xmm(2) + 8, 0x99aabbccddeeff00);
  ASSERT_EQ(run({0x0f, 0x11, 0x10}, 101).kind, Kind::Done);  // movups [rax], xmm2
  EXPECT_EQ(take<u64>(memory_.data + 101), 0x1122334455667788u);
  memory_.limit = 101 + 15;
  EXPECT_EQ(run({0x0f, 0x11, 0x10}, 101).kind, Kind::MemoryFault);
  EXPECT_EQ(run({0x0f, 0x10, 0x10}, 101).kind, Kind::MemoryFault);
}

TEST_F(HostedVector, AnX87ProgramRuns) {
  put<double>(memory_.data, 2.25);
  ASSERT_EQ(run({0xdd, 0x00}, 0).kind, Kind::Done);  // fld qword [rax]
  ASSERT_EQ(run({0xd9, 0xfa}).kind, Kind::Done);     // fsqrt
  ASSERT_EQ(run({0xdd, 0x18}, 8).kind, Kind::Done);  // fstp qword [rax]
  EXPECT_EQ(take<double>(memory_.data + 8), 1.5);
  EXPECT_EQ(state_.xsave[XsaveLayout::kFtw], 0);
}

TEST_F(HostedVector, NoHostAddressShowsInTheX87Environment) {
  put<float>(memory_.data, 1.0f);
  ASSERT_EQ(run({0xd9, 0x00}, 0).kind, Kind::Done);  // fld dword [rax]
  const u64 fip = take<u64>(state_.xsave + XsaveLayout::kFip);
  EXPECT_TRUE(fip == 0 || fip == state_.rip) << fip;  // AMD leaves it out without an exception
  const u64 fdp = take<u64>(state_.xsave + XsaveLayout::kFdp);
  EXPECT_EQ(fdp, 0u);
  ASSERT_EQ(run({0xd9, 0x30}, 64).kind, Kind::Done);  // fnstenv [rax]
  EXPECT_EQ(take<u16>(memory_.data + 64), 0x37f | 0);
  EXPECT_EQ(memory_.writes.back(), (Memory::Write{64, 28}));
}

TEST_F(HostedVector, AnUnmaskedX87ExceptionIsMF) {
  put<u16>(state_.xsave + XsaveLayout::kFcw, 0x37b);  // divide by zero unmasked
  ASSERT_EQ(run({0xd9, 0xe8}).kind, Kind::Done);      // fld1
  ASSERT_EQ(run({0xd9, 0xee}).kind, Kind::Done);      // fldz
  ASSERT_EQ(run({0xde, 0xf9}).kind, Kind::Done);      // fdivp: the exception is pending
  const VectorResult result = run({0xd9, 0xe8});      // fld1
  EXPECT_EQ(result.kind, Kind::Exception);
  EXPECT_EQ(result.vector, Vector::MF);
  ASSERT_EQ(run({0xdb, 0xe2}).kind, Kind::Done);  // fnclex
  EXPECT_EQ(run({0xd9, 0xe8}).kind, Kind::Done);
}

TEST_F(HostedVector, AnUnmaskedSseExceptionIsXM) {
  put<u32>(state_.xsave + XsaveLayout::kMxcsr, 0x1f80 & ~0x200u);
  put<float>(xmm(0), 1.0f);
  const VectorResult result = run({0xf3, 0x0f, 0x5e, 0xc1});  // divss xmm0, xmm1
  EXPECT_EQ(result.kind, Kind::Exception);
  EXPECT_EQ(result.vector, Vector::XM);
  EXPECT_EQ(take<float>(xmm(0)), 1.0f);
  EXPECT_EQ(mxcsr() & 0x3f, 4u);  // the flag stays
}

TEST_F(HostedVector, LdmxcsrRefusesReservedBits) {
  put<u32>(memory_.data, 0x9fc0);
  ASSERT_EQ(run({0x0f, 0xae, 0x10}, 0).kind, Kind::Done);
  EXPECT_EQ(mxcsr(), 0x9fc0u);
  put<u32>(memory_.data, 0x21f80);
  const VectorResult result = run({0x0f, 0xae, 0x10}, 0);
  EXPECT_EQ(result.kind, Kind::Exception);
  EXPECT_EQ(result.vector, Vector::GP);
  ASSERT_EQ(run({0x0f, 0xae, 0x18}, 8).kind, Kind::Done);  // stmxcsr
  EXPECT_EQ(take<u32>(memory_.data + 8), 0x9fc0u);
}

TEST_F(HostedVector, TheHostsControlWordsAreKept) {
  u32 before = 0;
  u16 word_before = 0;
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(before), "=m"(word_before));
  put<u32>(state_.xsave + XsaveLayout::kMxcsr, 0xff80);
  put<u16>(state_.xsave + XsaveLayout::kFcw, 0xf7f);
  ASSERT_EQ(run({0xd9, 0xe8}).kind, Kind::Done);
  u32 after = 0;
  u16 word_after = 0;
  asm volatile("stmxcsr %0\n\tfnstcw %1" : "=m"(after), "=m"(word_after));
  EXPECT_EQ(before, after);
  EXPECT_EQ(word_before, word_after);
}

TEST_F(HostedVector, MaskmovWritesOnlyWhatTheMaskSays) {
  for (unsigned i = 0; i < 16; ++i) xmm(0)[i] = static_cast<u8>(i + 1);
  xmm(1)[3] = xmm(1)[4] = xmm(1)[9] = 0x80;
  ASSERT_EQ(run({0x66, 0x0f, 0xf7, 0xc1}, 32).kind, Kind::Done);
  EXPECT_EQ(memory_.writes, (std::vector<Memory::Write>{{35, 2}, {41, 1}}));
  EXPECT_EQ(memory_.data[35], 4);
  EXPECT_EQ(memory_.data[41], 10);
}

TEST_F(HostedVector, AMaskedLoadDoesNotFaultOnWhatItLeavesOut) {
  require(cpu::Xcr0::AVX);
  if (IsSkipped()) return;
  // vmaskmovps xmm0, xmm1, [rax], the operand two elements over the end of memory
  memory_.limit = kPageSize;
  const u64 offset = kPageSize - 8;
  put<u64>(memory_.data + offset, 0x2222222211111111);
  put<u32>(xmm(1), 0x80000000);
  put<u32>(xmm(1) + 4, 0x80000000);
  ASSERT_EQ(run({0xc4, 0xe2, 0x71, 0x2c, 0x00}, offset).kind, Kind::Done);
  EXPECT_EQ(take<u64>(xmm(0)), 0x2222222211111111u);
  EXPECT_EQ(take<u64>(xmm(0) + 8), 0u);
  put<u32>(xmm(1) + 8, 0x80000000);
  EXPECT_EQ(run({0xc4, 0xe2, 0x71, 0x2c, 0x00}, offset).kind, Kind::MemoryFault);
  // the other page missing
  memory_.limit = 2 * kPageSize;
  memory_.first = kPageSize;
  EXPECT_EQ(run({0xc4, 0xe2, 0x71, 0x2c, 0x00}, offset).kind, Kind::MemoryFault);
  put<u64>(xmm(1), 0);
  put<u64>(memory_.data + kPageSize, 0x4444444433333333);
  ASSERT_EQ(run({0xc4, 0xe2, 0x71, 0x2c, 0x00}, offset).kind, Kind::Done);
  EXPECT_EQ(take<u64>(xmm(0) + 8), 0x33333333u);
  // all of it missing, nothing asked for
  memory_.first = memory_.limit = 0;
  put<u64>(xmm(1) + 8, 0);
  EXPECT_EQ(run({0xc4, 0xe2, 0x71, 0x2c, 0x00}, offset).kind, Kind::Done);
}

TEST_F(HostedVector, EvexMasksSuppressFaultsAndWrites) {
  require(cpu::Xcr0::opmask);
  if (IsSkipped()) return;
  interp::VectorRegisters registers(state_, layout_);
  registers.set_mask(1, 0b0110);
  for (unsigned i = 0; i < 4; ++i) put<u32>(xmm(2) + 4 * i, i + 1);
  ASSERT_EQ(run({0x62, 0xf1, 0x7e, 0x09, 0x7f, 0x10}, 64).kind, Kind::Done);  // vmovdqu32 [rax]{k1}, xmm2
  EXPECT_EQ(memory_.writes, (std::vector<Memory::Write>{{68, 8}}));
  // vpcompressd [rax]{k1}, xmm2: two elements, packed
  memory_.writes.clear();
  ASSERT_EQ(run({0x62, 0xf2, 0x7d, 0x09, 0x8b, 0x10}, 128).kind, Kind::Done);
  EXPECT_EQ(memory_.writes, (std::vector<Memory::Write>{{128, 8}}));
  EXPECT_EQ(take<u64>(memory_.data + 128), 0x0000000300000002u);
}

TEST_F(HostedVector, GathersGoElementByElement) {
  require(cpu::Xcr0::AVX);
  if (IsSkipped()) return;
  for (unsigned i = 0; i < 64; ++i) put<u32>(memory_.data + 4 * i, 100 + i);
  const u32 indices[] = {3, 0, 0xffffffff, 7};
  std::memcpy(xmm(1), indices, sizeof indices);
  for (unsigned i = 0; i < 4; ++i) put<u32>(xmm(2) + 4 * i, i == 1 ? 0 : 0x80000000);
  put<u32>(xmm(0) + 4, 77);
  // vpgatherdd xmm0, [rax+xmm1*4], xmm2
  ASSERT_EQ(run({0xc4, 0xe2, 0x69, 0x90, 0x04, 0x88}, 40).kind, Kind::Done);
  EXPECT_EQ(take<u32>(xmm(0)), 113u);
  EXPECT_EQ(take<u32>(xmm(0) + 4), 77u);
  EXPECT_EQ(take<u32>(xmm(0) + 8), 109u);
  EXPECT_EQ(take<u32>(xmm(0) + 12), 117u);
  EXPECT_EQ(take<u64>(xmm(2)), 0u);
  // A fault in the third element leaves the first two done.
  for (unsigned i = 0; i < 4; ++i) put<u32>(xmm(2) + 4 * i, 0x80000000);
  memory_.first = 40;
  EXPECT_EQ(run({0xc4, 0xe2, 0x69, 0x90, 0x04, 0x88}, 40).kind, Kind::MemoryFault);
  EXPECT_EQ(take<u64>(xmm(2)), 0u);
  EXPECT_EQ(take<u32>(xmm(2) + 8), 0x80000000u);
}

TEST_F(HostedVector, MoreInstructionsThanStubsIsNoMatter) {
  for (unsigned round = 0; round < 3; ++round) {
    for (unsigned i = 0; i < 64; ++i) {
      for (unsigned shuffle = 0; shuffle < 16; ++shuffle) {
        put<u64>(xmm(i / 8), 0x0001000200030004 * (i + 1));
        // pshuflw xmm, xmm, i
        ASSERT_EQ(run({0xf2, 0x0f, 0x70, 0xc0 | (i / 8 << 3) | (i / 8), i << 2 | shuffle % 4}).kind,
                  Kind::Done);
      }
    }
  }
  put<u64>(xmm(0), 0x0004000300020001);
  ASSERT_EQ(run({0xf2, 0x0f, 0x70, 0xc0, 0x1b}).kind, Kind::Done);
  EXPECT_EQ(take<u64>(xmm(0)), 0x0001000200030004u);
}

TEST_F(HostedVector, FaultsElsewhereAreNotItsBusiness) {
  u64 rip = reinterpret_cast<u64>(&memory_);
  EXPECT_FALSE(unit_->unit().recover(rip, 6, 0));
  EXPECT_EQ(rip, reinterpret_cast<u64>(&memory_));
}

}  // namespace
}  // namespace nacre::engine
