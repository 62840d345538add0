#include "x86/format.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace nacre::x86 {
namespace {

std::string text(std::initializer_list<u8> bytes, CodeSize size = CodeSize::Bits64, u64 rip = 0x1000) {
  Instruction i;
  decode(bytes.begin(), bytes.size(), size, i);
  char buffer[kFormattedLength];
  const usize length = format(i, rip, buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer).size(), length);
  return buffer;
}

TEST(Format, GeneralInstructions) {
  EXPECT_EQ(text({0xf0, 0x48, 0x01, 0x44, 0x8b, 0xf8}), "lock add qword ptr [rbx+rcx*4-0x8], rax");
  EXPECT_EQ(text({0x88, 0xe0}), "mov al, ah");
  EXPECT_EQ(text({0x40, 0x88, 0xe0}), "mov al, spl");
  EXPECT_EQ(text({0x66, 0x41, 0x89, 0xc7}), "mov r15w, ax");
  EXPECT_EQ(text({0x48, 0x83, 0xe4, 0xf0}), "and rsp, 0xfffffffffffffff0");
  EXPECT_EQ(text({0x8d, 0x04, 0x25, 0x10, 0, 0, 0}), "lea eax, [0x10]");
  EXPECT_EQ(text({0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0}), "mov rax, qword ptr gs:[0x0]");
  EXPECT_EQ(text({0xc8, 0x10, 0x00, 0x03}), "enter 0x10, 0x3");
  EXPECT_EQ(text({0x0f, 0x20, 0xd8}), "mov rax, cr3");
  EXPECT_EQ(text({0x48, 0x99}), "cqo");
}

TEST(Format, BranchesAndRipRelativeOperandsAreAddresses) {
  EXPECT_EQ(text({0x75, 0x10}), "jnz 0x1012");
  EXPECT_EQ(text({0xe8, 0xfb, 0xff, 0xff, 0xff}), "call 0x1000");
  EXPECT_EQ(text({0x8b, 0x05, 0x0a, 0, 0, 0}), "mov eax, dword ptr [rel 0x1010]");
  EXPECT_EQ(text({0xeb, 0xfe}, CodeSize::Bits16, 0), "jmp 0x0");
  EXPECT_EQ(text({0xea, 0x5b, 0xe0, 0x00, 0xf0}, CodeSize::Bits16), "jmp 0xf000:0xe05b");
}

TEST(Format, Strings) {
  EXPECT_EQ(text({0xf3, 0x48, 0xa5}), "rep movsq es:[rdi], ds:[rsi]");
  EXPECT_EQ(text({0xf2, 0xae}), "repne scasb al, es:[rdi]");
}

TEST(Format, Vectors) {
  EXPECT_EQ(text({0x0f, 0x58, 0x03}), "addps xmm0, xmmword ptr [rbx]");
  EXPECT_EQ(text({0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b}), "vpgatherdd xmm0, dword ptr [rbx+xmm1*4], xmm2");
  EXPECT_EQ(text({0x62, 0xf1, 0x74, 0xca, 0x58, 0xc2}), "vaddps zmm0{k2}{z}, zmm1, zmm2");
  EXPECT_EQ(text({0x62, 0xf1, 0x74, 0x58, 0x58, 0x43, 0x01}),
            "vaddps zmm0, zmm1, dword ptr [rbx+0x4]{1to16}");
  EXPECT_EQ(text({0x62, 0xf1, 0x74, 0x38, 0x58, 0xc2}), "vaddps zmm0, zmm1, zmm2, {rd-sae}");
  EXPECT_EQ(text({0xd9, 0xc3}), "fld st(3)");
}

TEST(Format, UndefinedOpcodesShowTheirBytes) {
  EXPECT_EQ(text({0x0f, 0x04}), "(undefined) 0f 04");
}

TEST(Format, NeverWritesPastTheEnd) {
  Instruction i;
  const u8 bytes[] = {0xf0, 0x48, 0x01, 0x44, 0x8b, 0xf8};
  decode(bytes, sizeof bytes, CodeSize::Bits64, i);
  char buffer[8] = "1234567";
  EXPECT_EQ(format(i, 0, buffer, 5), 4u);
  EXPECT_STREQ(buffer, "lock");
  EXPECT_EQ(buffer[5], '6');
  EXPECT_EQ(format(i, 0, buffer, 0), 0u);
}

}  // namespace
}  // namespace nacre::x86
