// Integer instructions: code bytes, registers before, registers and flags after.
#include <gtest/gtest.h>

#include "interp/test_machine.hpp"

namespace nacre::interp {
namespace {

using namespace x86;

constexpr u64 CF = Rflags::CF, PF = Rflags::PF, AF = Rflags::AF, ZF = Rflags::ZF, SF = Rflags::SF,
              OF = Rflags::OF;

struct Case {
  const char* name;
  std::initializer_list<int> code;
  u64 rax, rcx, rdx;  // before
  u64 flags;          // before
  u64 after_rax, after_rcx, after_rdx;
  u64 after_flags;  // arithmetic ones
};

// clang-format off
const Case kCases[] = {
    {"add al,cl carry", {0x00, 0xc8}, 0xff, 1, 0, 0, 0, 1, 0, CF | PF | AF | ZF},
    {"add eax,ecx clears the upper half", {0x01, 0xc8}, 0xffffffff00000001, 2, 0, 0, 3, 2, 0, PF},
    {"add ax,cx keeps the upper bits", {0x66, 0x01, 0xc8}, 0x11117fff, 1, 0, 0, 0x11118000, 1, 0, OF | SF | AF | PF},
    {"add ah,cl", {0x00, 0xcc}, 0x1200, 0x10, 0, 0, 0x2200, 0x10, 0, PF},
    {"adc rax,rcx", {0x48, 0x11, 0xc8}, ~u64{0}, 0, 0, CF, 0, 0, 0, CF | PF | AF | ZF},
    {"sub eax,ecx", {0x29, 0xc8}, 0, 1, 0, 0, 0xffffffff, 1, 0, CF | PF | AF | SF},
    {"sbb rax,rax", {0x48, 0x19, 0xc0}, 5, 0, 0, CF, ~u64{0}, 0, 0, CF | PF | AF | SF},
    {"cmp rax,imm8", {0x48, 0x83, 0xf8, 0xff}, ~u64{0}, 0, 0, 0, ~u64{0}, 0, 0, PF | ZF},
    {"and eax,imm32", {0x25, 0xf0, 0, 0, 0}, 0x1ff, 0, 0, CF | OF, 0xf0, 0, 0, PF},
    {"xor eax,eax", {0x31, 0xc0}, 5, 0, 0, CF, 0, 0, 0, PF | ZF},
    {"inc keeps CF", {0xff, 0xc0}, 0x7fffffff, 0, 0, CF, 0x80000000, 0, 0, CF | OF | SF | AF | PF},
    {"dec", {0x48, 0xff, 0xc8}, 0, 0, 0, 0, ~u64{0}, 0, 0, SF | AF | PF},
    {"neg", {0xf7, 0xd8}, 1, 0, 0, 0, 0xffffffff, 0, 0, CF | SF | AF | PF},
    {"not", {0x48, 0xf7, 0xd0}, 0, 0, 0, CF, ~u64{0}, 0, 0, CF},
    {"mul rcx", {0x48, 0xf7, 0xe1}, ~u64{0}, ~u64{0}, 0, 0, 1, ~u64{0}, ~u64{0} - 1, CF | OF},
    {"imul eax,ecx,-2", {0x6b, 0xc1, 0xfe}, 0, 3, 0, 0, 0xfffffffa, 3, 0, SF | PF},
    {"imul cl", {0xf6, 0xe9}, 0x80, 0xff, 0, 0, 0x80, 0xff, 0, CF | OF | SF},
    {"div ecx", {0xf7, 0xf1}, 7, 2, 1, 0, 0x80000003, 2, 1, 0},
    {"idiv rcx", {0x48, 0xf7, 0xf9}, static_cast<u64>(-7), 2, ~u64{0}, 0, static_cast<u64>(-3), 2, ~u64{0}, 0},
    {"div cl", {0xf6, 0xf1}, 0x105, 2, 0, 0, 0x182, 2, 0, 0},
    {"shl eax,cl", {0xd3, 0xe0}, 0xc0000001, 1, 0, 0, 0x80000002, 1, 0, CF | SF},
    {"shl by 32 does nothing", {0xd3, 0xe0}, 5, 32, 0, CF | OF, 5, 32, 0, CF | OF},
    {"shr rax,1", {0x48, 0xd1, 0xe8}, 0x8000000000000001, 0, 0, 0, 0x4000000000000000, 0, 0, CF | OF | PF},
    {"sar al,3", {0xc0, 0xf8, 3}, 0x84, 0, 0, 0, 0xf0, 0, 0, CF | SF | PF},
    {"rol ax,4", {0x66, 0xc1, 0xc0, 4}, 0x8001, 0, 0, 0, 0x18, 0, 0, 0},
    {"ror eax,1", {0xd1, 0xc8}, 1, 0, 0, 0, 0x80000000, 0, 0, CF | OF},
    {"rcl al,1", {0xd0, 0xd0}, 0x80, 0, 0, 0, 0, 0, 0, CF | OF},
    {"rcr eax,1", {0xd1, 0xd8}, 0, 0, 0, CF, 0x80000000, 0, 0, OF},
    {"shld eax,edx,4", {0x0f, 0xa4, 0xd0, 4}, 0x12345678, 0, 0xabcdef00, 0, 0x2345678a, 0, 0xabcdef00, CF},
    {"shrd eax,edx,8", {0x0f, 0xac, 0xd0, 8}, 0x12345678, 0, 0xab, 0, 0xab123456, 0, 0xab, SF | OF | PF},
    {"bt eax,31", {0x0f, 0xba, 0xe0, 31}, 0x80000000, 0, 0, ZF, 0x80000000, 0, 0, CF | ZF},
    {"bts eax,ecx", {0x0f, 0xab, 0xc8}, 0, 33, 0, CF, 2, 33, 0, 0},
    {"bsf eax,ecx", {0x0f, 0xbc, 0xc1}, 9, 0x10, 0, 0, 4, 0x10, 0, 0},
    {"bsr of zero", {0x0f, 0xbd, 0xc1}, 9, 0, 0, 0, 9, 0, 0, ZF},
    {"popcnt", {0xf3, 0x0f, 0xb8, 0xc1}, 0, 0xff, 0, CF, 8, 0xff, 0, 0},
    {"crc32 eax,cl", {0xf2, 0x0f, 0x38, 0xf0, 0xc1}, 0, 1, 0, 0, 0xf26b8303, 1, 0, 0},
    {"movzx eax,cl", {0x0f, 0xb6, 0xc1}, ~u64{0}, 0x180, 0, 0, 0x80, 0x180, 0, 0},
    {"movsx rax,cx", {0x48, 0x0f, 0xbf, 0xc1}, 0, 0x8000, 0, 0, 0xffffffffffff8000, 0x8000, 0, 0},
    {"movsxd rax,ecx", {0x48, 0x63, 0xc1}, 0, 0x80000000, 0, 0, 0xffffffff80000000, 0x80000000, 0, 0},
    {"bswap eax", {0x0f, 0xc8}, 0xff11223344, 0, 0, 0, 0x44332211, 0, 0, 0},
    {"xchg ah,cl", {0x86, 0xcc}, 0x1234, 0x56, 0, 0, 0x5634, 0x12, 0, 0},
    {"cmpxchg ecx,edx equal", {0x0f, 0xb1, 0xd1}, 7, 7, 9, 0, 7, 9, 9, PF | ZF},
    {"cmpxchg ecx,edx differs", {0x0f, 0xb1, 0xd1}, 8, 7, 9, 0, 7, 7, 9, 0},
    {"xadd eax,ecx", {0x0f, 0xc1, 0xc8}, 1, 2, 0, 0, 3, 1, 0, PF},
    {"setc al", {0x0f, 0x92, 0xc0}, 0xff00, 0, 0, CF, 0xff01, 0, 0, CF},
    {"cmovz eax,ecx not taken", {0x0f, 0x44, 0xc1}, ~u64{0}, 5, 0, 0, 0xffffffff, 5, 0, 0},
    {"cdqe", {0x48, 0x98}, 0x80000000, 0, 0, 0, 0xffffffff80000000, 0, 0, 0},
    {"cdq", {0x99}, 0x80000000, 0, 5, 0, 0x80000000, 0, 0xffffffff, 0},
    {"lahf", {0x9f}, 0, 0, 0, CF | ZF, 0x4300, 0, 0, CF | ZF},
    {"lea rax,[rcx+rdx*8-1]", {0x48, 0x8d, 0x44, 0xd1, 0xff}, 0, 0x10, 2, 0, 0x1f, 0x10, 2, 0},
    {"lea eax,[ecx] wraps", {0x67, 0x8d, 0x41, 0x01}, 0, 0x1ffffffff, 0, 0, 0, 0x1ffffffff, 0, 0},
    {"andn eax,ecx,edx", {0xc4, 0xe2, 0x70, 0xf2, 0xc2}, 0, 0xf0, 0xff, CF, 0xf, 0xf0, 0xff, PF},
    {"pext rax,rcx,rdx", {0xc4, 0xe2, 0xf2, 0xf5, 0xc2}, 0, 0xabcd, 0xf0f0, 0, 0xac, 0xabcd, 0xf0f0, 0},
    {"pdep rax,rcx,rdx", {0xc4, 0xe2, 0xf3, 0xf5, 0xc2}, 0, 0xac, 0xf0f0, 0, 0xa0c0, 0xac, 0xf0f0, 0},
};
// clang-format on

TEST(Integer, Table) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.name);
    Machine m;
    m.long_mode();
    m.code(c.code);
    m.state.gpr[RAX] = c.rax;
    m.state.gpr[RCX] = c.rcx;
    m.state.gpr[RDX] = c.rdx;
    m.state.rflags = Rflags::fixed | c.flags;
    ASSERT_EQ(m.step(), StepResult::Executed);
    EXPECT_EQ(m.state.rip, Machine::kCode + c.code.size());
    EXPECT_EQ(m.state.gpr[RAX], c.after_rax);
    EXPECT_EQ(m.state.gpr[RCX], c.after_rcx);
    EXPECT_EQ(m.state.gpr[RDX], c.after_rdx);
    // Undefined flags are whatever we chose; the table says what that is only where it is defined.
    const bool product = c.code.size() > 0 && std::string_view(c.name).find("mul") != std::string_view::npos;
    const u64 mask = product ? CF | OF : Rflags::arithmetic;
    EXPECT_EQ(m.state.rflags & mask, c.after_flags & mask);
  }
}

}  // namespace
}  // namespace nacre::interp
