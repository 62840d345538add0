// Representative rows and every rule of the decoder, by example. The mass of encodings is compared with
// another decoder in zydis_test.cpp.
#include <gtest/gtest.h>

#include <initializer_list>

#include "x86/instruction.hpp"

namespace nacre::x86 {
namespace {

constexpr u16 mask(std::initializer_list<unsigned> gprs) {
  unsigned bits = 0;
  for (const unsigned gpr : gprs) bits |= 1u << gpr;
  return static_cast<u16>(bits);
}

struct Decoded {
  DecodeStatus status;
  Instruction i;
};
Decoded decode_bytes(CodeSize size, std::initializer_list<u8> bytes) {
  Decoded d;
  d.status = decode(bytes.begin(), bytes.size(), size, d.i);
  return d;
}
Instruction decode64(std::initializer_list<u8> bytes) {
  const Decoded d = decode_bytes(CodeSize::Bits64, bytes);
  EXPECT_EQ(d.status, DecodeStatus::Ok);
  EXPECT_EQ(d.i.length, bytes.size());
  return d.i;
}
Instruction decode32(std::initializer_list<u8> bytes) {
  const Decoded d = decode_bytes(CodeSize::Bits32, bytes);
  EXPECT_EQ(d.status, DecodeStatus::Ok);
  return d.i;
}
Instruction decode16(std::initializer_list<u8> bytes) {
  const Decoded d = decode_bytes(CodeSize::Bits16, bytes);
  EXPECT_EQ(d.status, DecodeStatus::Ok);
  return d.i;
}
DecodeStatus status64(std::initializer_list<u8> bytes) {
  return decode_bytes(CodeSize::Bits64, bytes).status;
}

TEST(Decode, AddWithMemoryDestination) {
  const Instruction i = decode64({0x48, 0x01, 0x44, 0x8b, 0xf8});  // add [rbx+rcx*4-8], rax
  EXPECT_STREQ(i.info->name, "add");
  EXPECT_EQ(i.info->operation, Operation::Add);
  EXPECT_EQ(i.info->kind, Class::Plain);
  EXPECT_EQ(i.operand_size, 8);
  EXPECT_EQ(i.base, RBX);
  EXPECT_EQ(i.index, RCX);
  EXPECT_EQ(i.scale, 2);
  EXPECT_EQ(i.displacement, -8);
  EXPECT_EQ(i.displacement_offset, 4);
  EXPECT_EQ(i.displacement_size, 1);
  EXPECT_EQ(i.modrm_offset, 2);
  EXPECT_EQ(memory_bytes(i), 8u);
  EXPECT_EQ(memory_operand(i)->access, Access::ReadWrite);
  EXPECT_EQ(i.effective_segment(), DS);
  EXPECT_EQ(gprs_read(i), mask({RAX, RBX, RCX}));
  EXPECT_EQ(gprs_written(i), 0);
  EXPECT_EQ(i.info->flags_written, Rflags::arithmetic);
}

TEST(Decode, RexCountsOnlyDirectlyBeforeTheOpcode) {
  const Instruction i = decode64({0x48, 0x66, 0x01, 0xd8});  // rex.w is lost: add ax, bx
  EXPECT_FALSE(i.w);
  EXPECT_EQ(i.rex, 0);
  EXPECT_EQ(i.operand_size, 2);
}

TEST(Decode, ByteRegistersDependOnRex) {
  const Instruction high = decode64({0x88, 0xe0});       // mov al, ah
  const Instruction low = decode64({0x40, 0x88, 0xe0});  // mov al, spl
  EXPECT_TRUE(byte_register(high, high.reg).high);
  EXPECT_EQ(byte_register(high, high.reg).index, RAX);
  EXPECT_FALSE(byte_register(low, low.reg).high);
  EXPECT_EQ(byte_register(low, low.reg).index, RSP);
  EXPECT_EQ(gprs_read(low), mask({RAX, RSP}));  // al: the rest of rax stays
}

TEST(Decode, RipRelativeAndAbsolute) {
  const Instruction rip = decode64({0x8b, 0x05, 0x10, 0, 0, 0});
  EXPECT_EQ(rip.base, kRipBase);
  EXPECT_EQ(rip.displacement, 0x10);
  const Instruction absolute = decode64({0x8b, 0x04, 0x25, 0, 0, 0, 0x80});
  EXPECT_EQ(absolute.base, kNoRegister);
  EXPECT_EQ(absolute.index, kNoRegister);
  EXPECT_EQ(absolute.displacement, -0x80000000ll);
  const Instruction in32 = decode32({0x8b, 0x05, 0x10, 0, 0, 0});
  EXPECT_EQ(in32.base, kNoRegister);
}

TEST(Decode, StackSegmentFollowsTheBase) {
  EXPECT_EQ(decode64({0x8b, 0x45, 0x00}).effective_segment(), SS);        // [rbp]
  EXPECT_EQ(decode64({0x64, 0x8b, 0x45, 0x00}).effective_segment(), FS);  // fs:[rbp]
  EXPECT_EQ(decode64({0x41, 0x8b, 0x45, 0x00}).effective_segment(), DS);  // [r13]
  EXPECT_EQ(decode64({0x2e, 0x8b, 0x03}).effective_segment(), DS);        // cs: means nothing
  EXPECT_EQ(decode16({0x8b, 0x02}).effective_segment(), SS);              // [bp+si]
}

TEST(Decode, Addressing16) {
  const Instruction i = decode16({0x8b, 0x87, 0x34, 0x12});  // mov ax, [bx+0x1234]
  EXPECT_EQ(i.operand_size, 2);
  EXPECT_EQ(i.address_size, 2);
  EXPECT_EQ(i.base, RBX);
  EXPECT_EQ(i.displacement, 0x1234);
  const Instruction absolute = decode16({0x66, 0x8b, 0x16, 0xff, 0xff});
  EXPECT_EQ(absolute.base, kNoRegister);
  EXPECT_EQ(absolute.displacement, -1);
  EXPECT_EQ(absolute.operand_size, 4);
}

TEST(Decode, OperandSizesOfStackAndBranches) {
  EXPECT_EQ(decode64({0x50}).operand_size, 8);
  EXPECT_EQ(decode64({0x66, 0x50}).operand_size, 2);
  const Instruction call = decode64({0x66, 0xe8, 0xfc, 0xff, 0xff, 0xff});  // 66 is ignored
  EXPECT_EQ(call.operand_size, 8);
  EXPECT_EQ(static_cast<i64>(call.immediate), -4);
  EXPECT_EQ(call.info->kind, Class::Call);
  EXPECT_EQ(decode32({0x66, 0xe8, 0xfc, 0xff}).length, 4);
}

TEST(Decode, Immediates) {
  EXPECT_EQ(decode64({0x48, 0x83, 0xc0, 0x80}).immediate, ~u64{0x7f});
  EXPECT_EQ(decode64({0x48, 0x05, 0, 0, 0, 0x80}).immediate, 0xffffffff80000000u);
  EXPECT_EQ(decode64({0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}).immediate, 0x0807060504030201u);
  EXPECT_EQ(decode64({0xc0, 0xe0, 0xff}).immediate, 0xffu);
  const Instruction enter = decode64({0xc8, 0x10, 0x00, 0x03});
  EXPECT_EQ(enter.immediate, 0x10u);
  EXPECT_EQ(enter.immediate2, 3);
  const Instruction far = decode16({0xea, 0x5b, 0xe0, 0x00, 0xf0});
  EXPECT_EQ(far.immediate, 0xe05bu);
  EXPECT_EQ(far.immediate2, 0xf000);
  const Instruction moffs = decode64({0xa1, 8, 7, 6, 5, 4, 3, 2, 0x81});
  EXPECT_EQ(static_cast<u64>(moffs.displacement), 0x8102030405060708u);
  EXPECT_EQ(memory_operand(moffs)->kind, OperandKind::MemoryOffset);
}

TEST(Decode, ModRmGroups) {
  EXPECT_EQ(decode64({0x0f, 0x01, 0xf8}).info->operation, Operation::Swapgs);
  EXPECT_EQ(decode64({0x0f, 0x01, 0x38}).info->operation, Operation::Invlpg);
  EXPECT_EQ(decode64({0x0f, 0xae, 0xf0}).info->operation, Operation::Mfence);
  EXPECT_EQ(decode64({0x48, 0x0f, 0xc7, 0x0e}).info->operation, Operation::Cmpxchg8b16b);
  EXPECT_EQ(memory_bytes(decode64({0x48, 0x0f, 0xc7, 0x0e})), 16u);
  EXPECT_EQ(memory_bytes(decode64({0x0f, 0xc7, 0x0e})), 8u);
  EXPECT_EQ(status64({0x0f, 0xc7, 0xce}), DecodeStatus::Invalid);
  EXPECT_EQ(status64({0xff, 0xff}), DecodeStatus::Invalid);
}

TEST(Decode, NopPauseXchg) {
  EXPECT_EQ(decode64({0x90}).info->operation, Operation::Nop);
  EXPECT_EQ(decode64({0xf3, 0x90}).info->operation, Operation::Pause);
  const Instruction xchg = decode64({0x41, 0x90});
  EXPECT_EQ(xchg.info->operation, Operation::Xchg);
  EXPECT_EQ(gprs_written(xchg), mask({RAX, R8}));
}

TEST(Decode, Conditions) {
  EXPECT_EQ(flags_tested(decode64({0x77, 0x00})), u32{Rflags::CF | Rflags::ZF});  // ja
  EXPECT_EQ(flags_tested(decode64({0x0f, 0x9c, 0xc0})), u32{Rflags::SF | Rflags::OF});
}

TEST(Decode, Strings) {
  const Instruction i = decode64({0xf3, 0x48, 0xa5});  // rep movsq
  EXPECT_EQ(i.info->kind, Class::String);
  EXPECT_EQ(gprs_read(i), mask({RCX, RSI, RDI}));
  EXPECT_EQ(gprs_written(i), mask({RCX, RSI, RDI}));
  EXPECT_EQ(gprs_written(decode64({0xa5})), mask({RSI, RDI}));
  EXPECT_EQ(operand_bytes(i, i.info->operands[0].width), 8u);
}

TEST(Decode, Lock) {
  EXPECT_TRUE(decode64({0xf0, 0x01, 0x03}).lock);
  EXPECT_EQ(status64({0xf0, 0x01, 0xc3}), DecodeStatus::Invalid);  // register destination
  EXPECT_EQ(status64({0xf0, 0x03, 0x03}), DecodeStatus::Invalid);  // memory source
  EXPECT_EQ(status64({0xf0, 0x90}), DecodeStatus::Invalid);
}

TEST(Decode, SegmentAndControlRegisters) {
  EXPECT_EQ(decode64({0x8e, 0xd8}).reg, DS);
  EXPECT_EQ(status64({0x8e, 0xc8}), DecodeStatus::Invalid);  // mov cs
  EXPECT_EQ(status64({0x8c, 0xf0}), DecodeStatus::Invalid);
  const Instruction cr8 = decode64({0x44, 0x0f, 0x20, 0xc0});
  EXPECT_EQ(cr8.reg, 8);
  EXPECT_EQ(operand_bytes(cr8, cr8.info->operands[0].width), 8u);
  EXPECT_EQ(status64({0x0f, 0x20, 0xc8}), DecodeStatus::Invalid);  // cr1
  const Instruction mod0 = decode64({0x0f, 0x20, 0x00});           // mod is ignored
  EXPECT_FALSE(mod0.is_memory);
  EXPECT_EQ(mod0.length, 3);
}

TEST(Decode, SseAlignmentAndWidths) {
  const Instruction addps = decode64({0x0f, 0x58, 0x03});
  EXPECT_STREQ(addps.info->name, "addps");
  EXPECT_EQ(addps.info->kind, Class::Sse);
  EXPECT_EQ(memory_bytes(addps), 16u);
  EXPECT_NE(addps.info->attributes & OpcodeAttribute::aligned_memory, 0u);
  EXPECT_EQ(decode64({0x0f, 0x10, 0x03}).info->attributes & OpcodeAttribute::aligned_memory, 0u);
  EXPECT_EQ(memory_bytes(decode64({0xf3, 0x0f, 0x58, 0x03})), 4u);
  EXPECT_EQ(memory_bytes(decode64({0x66, 0x48, 0x0f, 0x6e, 0x03})), 8u);
  EXPECT_EQ(memory_bytes(decode64({0x66, 0x0f, 0x3a, 0x20, 0x03, 0x01})), 1u);
  EXPECT_STREQ(decode64({0x0f, 0xfc, 0x03}).info->name, "paddb");
  EXPECT_EQ(decode64({0x0f, 0xfc, 0x03}).info->kind, Class::X87);
  // F2 and F3 win over 66.
  EXPECT_STREQ(decode64({0x66, 0xf2, 0x0f, 0x58, 0x03}).info->name, "addsd");
}

TEST(Decode, Vex) {
  const Instruction i = decode64({0xc5, 0xed, 0x58, 0x03});  // vaddpd ymm0, ymm2, [rbx]
  EXPECT_STREQ(i.info->name, "vaddpd");
  EXPECT_EQ(i.encoding, Encoding::Vex);
  EXPECT_EQ(i.vvvv, 2);
  EXPECT_EQ(memory_bytes(i), 32u);
  EXPECT_EQ(i.info->attributes & OpcodeAttribute::aligned_memory, 0u);
  const Instruction andn = decode64({0xc4, 0xe2, 0xf0, 0xf2, 0xc3});  // andn rax, rcx, rbx
  EXPECT_EQ(andn.info->kind, Class::Plain);
  EXPECT_EQ(andn.operand_size, 8);
  EXPECT_EQ(gprs_read(andn), mask({RCX, RBX}));
  EXPECT_EQ(gprs_written(andn), mask({RAX}));
  EXPECT_EQ(status64({0x66, 0xc5, 0xed, 0x58, 0x03}), DecodeStatus::Invalid);
  EXPECT_EQ(status64({0x48, 0xc5, 0xed, 0x58, 0x03}), DecodeStatus::Invalid);
  EXPECT_EQ(status64({0xc5, 0xe9, 0x6f, 0x03}), DecodeStatus::Invalid);  // vvvv is not used by vmovdqa
  EXPECT_EQ(decode32({0xc5, 0x03}).info->operation, Operation::Lds);
  EXPECT_EQ(decode32({0x62, 0x03}).info->operation, Operation::Bound);
  EXPECT_EQ(decode64({0xc5, 0xf8, 0x77}).info->operation, Operation::Vzeroupper);
}

TEST(Decode, VexGather) {
  const Instruction i =
      decode64({0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b});  // vpgatherdd xmm0, [rbx+xmm1*4], xmm2
  EXPECT_EQ(i.info->operation, Operation::Gather);
  EXPECT_EQ(i.base, RBX);
  EXPECT_EQ(i.index, 1);
  EXPECT_EQ(gprs_read(i), mask({RBX}));
  EXPECT_EQ(status64({0xc4, 0xe2, 0x69, 0x90, 0x0c, 0x8b}),
            DecodeStatus::Invalid);  // destination is the index
}

TEST(Decode, EvexDisplacementScaling) {
  const Instruction full =
      decode64({0x62, 0xf1, 0x74, 0x48, 0x58, 0x43, 0x01});  // vaddps zmm0, zmm1, [rbx+64]
  EXPECT_EQ(full.displacement, 64);
  EXPECT_EQ(memory_bytes(full), 64u);
  const Instruction one = decode64({0x62, 0xf1, 0x74, 0x58, 0x58, 0x43, 0x01});  // … [rbx+4]{1to16}
  EXPECT_EQ(one.displacement, 4);
  EXPECT_EQ(memory_bytes(one), 4u);
  const Instruction scalar =
      decode64({0x62, 0xf1, 0xf7, 0x08, 0x58, 0x43, 0x02});  // vaddsd xmm0, xmm1, [rbx+16]
  EXPECT_EQ(scalar.displacement, 16);
  EXPECT_EQ(memory_bytes(scalar), 8u);
}

TEST(Decode, EvexMasksAndRounding) {
  const Instruction masked =
      decode64({0x62, 0xf1, 0x74, 0xca, 0x58, 0xc2});  // vaddps zmm0{k2}{z}, zmm1, zmm2
  EXPECT_EQ(masked.mask, 2);
  EXPECT_TRUE(masked.zeroing);
  const Instruction rounded = decode64({0x62, 0xf1, 0x74, 0x38, 0x58, 0xc2});  // … {rd-sae}
  EXPECT_EQ(rounded.vector_length, 64);
  EXPECT_EQ(rounded.rounding, 1);
  EXPECT_EQ(status64({0x62, 0xf1, 0x74, 0x68, 0x58, 0xc2}), DecodeStatus::Invalid);  // L'L = 3
  EXPECT_EQ(status64({0x62, 0xf1, 0x7c, 0xc9, 0x11, 0x03}), DecodeStatus::Invalid);  // zeroing into memory
}

TEST(Decode, NeedsMoreBytes) {
  const u8 bytes[] = {0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8};
  Instruction i;
  for (usize n = 0; n < sizeof bytes; ++n) {
    EXPECT_EQ(decode(bytes, n, CodeSize::Bits64, i), DecodeStatus::NeedMoreBytes) << n;
    EXPECT_EQ(i.info->kind, Class::Invalid);
  }
  EXPECT_EQ(decode(bytes, sizeof bytes, CodeSize::Bits64, i), DecodeStatus::Ok);
}

TEST(Decode, FifteenBytesAreTheLimit) {
  u8 bytes[32];
  for (u8& b : bytes) b = 0x66;
  bytes[14] = 0x90;
  Instruction i;
  EXPECT_EQ(decode(bytes, 15, CodeSize::Bits64, i), DecodeStatus::Ok);
  EXPECT_EQ(i.length, 15);
  bytes[14] = 0x66, bytes[15] = 0x90;
  EXPECT_EQ(decode(bytes, sizeof bytes, CodeSize::Bits64, i), DecodeStatus::TooLong);
  EXPECT_EQ(decode(bytes, 14, CodeSize::Bits64, i), DecodeStatus::NeedMoreBytes);
}

TEST(Decode, ModesDecideWhatExists) {
  EXPECT_EQ(status64({0x37}), DecodeStatus::Invalid);
  EXPECT_EQ(decode32({0x37}).info->operation, Operation::Aaa);
  EXPECT_EQ(decode32({0x40}).info->operation, Operation::Inc);
  EXPECT_EQ(decode32({0x63, 0xc1}).info->operation, Operation::Arpl);
  EXPECT_EQ(decode64({0x63, 0xc1}).info->operation, Operation::Movsxd);
  EXPECT_EQ(decode_bytes(CodeSize::Bits32, {0x0f, 0x01, 0xf8}).status, DecodeStatus::Invalid);  // swapgs
}

}  // namespace
}  // namespace nacre::x86
