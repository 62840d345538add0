// Exceptions, interrupts, gates, far transfers and fast system calls: what is pushed, where execution goes,
// which error code.
#include <gtest/gtest.h>

#include "interp/test_machine.hpp"

namespace nacre::interp {
namespace {

using namespace x86;
using M = Machine;

u64 frame(const M& m, unsigned index) {
  return m.peek<u64>(m.state.gpr[RSP] + 8 * index);
}
u32 frame32(const M& m, unsigned index) {
  return m.peek<u32>(m.state.gpr[RSP] + 4 * index);
}

TEST(Delivery, Long64SamePrivilege) {
  M m;
  m.long_mode();
  m.gate64(6);
  m.code({0x0f, 0x0b});  // ud2
  m.state.rflags |= Rflags::IF;
  ASSERT_EQ(m.step(), StepResult::Executed);
  EXPECT_EQ(m.state.rip, M::handler(6));
  EXPECT_EQ(m.state.gpr[RSP], M::kStack - 40);
  EXPECT_EQ(frame(m, 0), M::kCode);
  EXPECT_EQ(frame(m, 1), M::kCode64);
  EXPECT_EQ(frame(m, 2), Rflags::fixed | Rflags::IF | Rflags::RF);
  EXPECT_EQ(frame(m, 3), M::kStack);
  EXPECT_EQ(frame(m, 4), M::kData);
  EXPECT_EQ(m.state.rflags & Rflags::IF, 0u);
}

TEST(Delivery, Long64ToInnerPrivilegeUsesRsp0AndNullsSs) {
  M m;
  m.long_mode(3);
  m.gate64(13);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.code({0xf4});  // hlt at CPL 3
  ASSERT_EQ(m.step(), StepResult::Executed);
  EXPECT_EQ(m.state.rip, M::handler(13));
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(m.state.segment[SS].selector, 0);
  EXPECT_EQ(m.state.gpr[RSP], 0x7000u - 48);
  EXPECT_EQ(frame(m, 0), 0u);  // error code
  EXPECT_EQ(frame(m, 2), M::kUserCode64);
  EXPECT_EQ(frame(m, 5), M::kUserData);
}

TEST(Delivery, InterruptStackTable) {
  M m;
  m.long_mode();
  m.gate64(3, 14, 3, 1);
  m.poke<u64>(M::kTss + 0x24, 0x6ff8);
  m.code({0xcc});
  ASSERT_EQ(m.step(), StepResult::Executed);
  EXPECT_EQ(m.state.gpr[RSP], 0x6ff0u - 40);  // aligned to 16
  EXPECT_EQ(frame(m, 0), M::kCode + 1);
}

// A user's INT 80H, and IRETQ in its handler.
void put_call_from_user(M& m) {
  m.long_mode(3);
  m.gate64(0x80, 15, 3);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.code({0xcd, 0x80});
  m.put(M::handler(0x80), {0x48, 0xcf});
}

TEST(Delivery, IretqReturnsToUser) {
  M m;
  put_call_from_user(m);
  m.state.rflags |= Rflags::CF | Rflags::IF;
  m.steps(1);
  EXPECT_NE(m.state.rflags & Rflags::IF, 0u);  // a trap gate leaves it
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
  EXPECT_EQ(m.state.rflags, Rflags::fixed | Rflags::CF | Rflags::IF);
}

// Going to users takes a kernel's FS away from them, but not its base. SDM vol. 2, IRET.
TEST(Delivery, IretqToUserKeepsTheBaseOfWhatBecomesNull) {
  M m;
  put_call_from_user(m);
  m.steps(1);
  m.state.segment[x86::FS] = {0x10, 0xc093, 0xffffffff, 0x123456789000};
  m.steps(1);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.segment[x86::FS].selector, 0u);
  EXPECT_FALSE(m.state.segment[x86::FS].present());
  EXPECT_EQ(m.state.segment[x86::FS].base, 0x123456789000u);
}

TEST(Delivery, SoftwareInterruptChecksTheGate) {
  M m;
  m.long_mode(3);
  m.gate64(0x80, 14, 0);
  m.gate64(13);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.code({0xcd, 0x80});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
  EXPECT_EQ(frame(m, 0), 0x80u * 8 + 2);
  EXPECT_EQ(frame(m, 1), M::kCode);  // points at the INT
}

TEST(Delivery, PageFaultSetsCr2AndCode) {
  M m;
  m.long_mode();
  m.gate64(14);
  m.set_pte(0x20000, 0);
  m.code({0xc6, 0x04, 0x25, 0x10, 0x00, 0x02, 0x00, 0x01});  // mov byte [0x20010], 1
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(14));
  EXPECT_EQ(m.state.cr2, 0x20010u);
  EXPECT_EQ(frame(m, 0), PageFaultCode::W);
}

TEST(Delivery, StoreAcrossPagesChangesNothingWhenTheSecondFaults) {
  M m;
  m.long_mode();
  m.gate64(14);
  m.set_pte(0x21000, 0);
  m.poke<u64>(0x20ff8, 0);
  m.state.gpr[RAX] = ~u64{0};
  m.code({0x48, 0x89, 0x04, 0x25, 0xfc, 0x0f, 0x02, 0x00});  // mov [0x20ffc], rax
  m.steps(1);
  EXPECT_EQ(m.state.cr2, 0x21000u);
  EXPECT_EQ(m.peek<u64>(0x20ff8), 0u);
}

TEST(Delivery, NotPresentGateIsNp) {
  M m;
  m.long_mode();
  m.gate64(11);
  m.gate64(6);
  m.poke<u64>(M::kIdt + 16 * 6, m.peek<u64>(M::kIdt + 16 * 6) & ~(u64{1} << 47));
  m.code({0x0f, 0x0b});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(11));
  EXPECT_EQ(frame(m, 0), 6u * 8 + 2 + 1);
}

TEST(Delivery, ContributoryTwiceIsADoubleFault) {
  M m;
  m.long_mode();
  m.gate64(8);                                                  // no gate for #GP: its delivery raises #GP
  m.code({0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x00});  // mov rax, 1<<63; mov al, [rax]
  m.steps(2);
  EXPECT_EQ(m.state.rip, M::handler(8));
  EXPECT_EQ(frame(m, 0), 0u);
}

TEST(Delivery, TripleFaultShutsDown) {
  M m;
  m.long_mode();
  m.state.idtr.limit = 0;
  m.code({0x0f, 0x0b});
  EXPECT_EQ(m.step(), StepResult::Shutdown);
  EXPECT_EQ(m.state.activity, cpu::Activity::Shutdown);
  EXPECT_EQ(m.step(), StepResult::Shutdown);
}

TEST(Delivery, DivideOverflowIsTheGuestsOwn) {
  M m;
  m.long_mode();
  m.gate64(0);
  m.state.gpr[RAX] = u64{1} << 63;
  m.state.gpr[RDX] = ~u64{0};
  m.state.gpr[RCX] = ~u64{0};
  m.code({0x48, 0xf7, 0xf9});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(0));
  EXPECT_EQ(frame(m, 0), M::kCode);
}

TEST(Delivery, ExternalInterruptWaitsForIfAndShadow) {
  M m;
  m.long_mode();
  m.gate64(0x31);
  m.code({0xfb, 0x90, 0x90});  // sti; nop; nop
  m.platform.interrupts.push_back(0x31);
  m.steps(1);
  EXPECT_TRUE(m.state.interrupt_shadow);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 2);  // the shadow let one instruction pass
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(0x31));
  EXPECT_EQ(frame(m, 0), M::kCode + 2);
}

// In batches too, which look for interrupts only now and then.
TEST(Delivery, AShortWindowIsNotMissed) {
  M m;
  m.long_mode();
  m.gate64(0x31);
  m.code({0x90, 0xfb, 0x90, 0x90, 0xfa, 0x90});  // nop; sti; nop; nop; cli; nop
  m.platform.interrupts.push_back(0x31);
  for (int i = 0; i < 3 && !m.platform.interrupts.empty(); ++i) m.interpreter().run(m.state, 64);
  EXPECT_TRUE(m.platform.interrupts.empty());
  EXPECT_EQ(frame(m, 0), M::kCode + 3);
}

// mov cr8, rax lets through what the priority held back.
TEST(Delivery, ABatchEndsWhereTheTaskPriorityChanges) {
  M m;
  m.long_mode();
  m.code({0x44, 0x0f, 0x22, 0xc0, 0x90, 0x90});
  m.state.gpr[RAX] = 0;
  m.interpreter().run(m.state, 64);
  EXPECT_EQ(m.state.rip, M::kCode + 4);
}

TEST(Delivery, HaltWaitsAndWakes) {
  M m;
  m.long_mode();
  m.gate64(0x31);
  m.code({0xf4});
  m.state.rflags |= Rflags::IF;
  m.steps(1);
  EXPECT_EQ(m.step(), StepResult::Halted);
  m.platform.interrupts.push_back(0x31);
  m.steps(1);
  EXPECT_EQ(m.state.activity, cpu::Activity::Running);
  EXPECT_EQ(frame(m, 0), M::kCode + 1);
}

TEST(Delivery, NmiIsBlockedUntilIret) {
  M m;
  m.long_mode();
  m.gate64(2);
  m.put(M::handler(2), {0x90, 0x48, 0xcf});
  m.code({0x90, 0x90});
  m.state.nmi_pending = true;
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(2));
  m.state.nmi_pending = true;
  m.steps(1);  // the nop, not a second NMI
  EXPECT_EQ(m.state.rip, M::handler(2) + 1);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(2));
}

// As when the second comes before this processor's thread has heard of the first: State::nmi_pending.
TEST(Delivery, TwoNmisAreTwo) {
  M m;
  m.long_mode();
  m.gate64(2);
  m.put(M::handler(2), {0x48, 0xcf});
  m.code({0x90});
  m.state.nmi_pending = 2;
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(2));
  EXPECT_EQ(m.state.nmi_pending, 1);
  m.steps(2);
  EXPECT_EQ(m.state.rip, M::handler(2));
  EXPECT_EQ(m.state.nmi_pending, 0);
  m.steps(2);
  EXPECT_EQ(m.state.rip, M::kCode + 1);
}

TEST(Delivery, NmiComesRightAfterTheIretThatLetsItIn) {
  M m;
  m.long_mode();
  m.gate64(2);
  m.put(M::handler(2), {0x48, 0xcf});
  m.code({0xff, 0xc3, 0xff, 0xc3});  // inc ebx; inc ebx
  m.state.nmi_pending = 2;
  const u64 rbx = m.state.gpr[RBX];
  static_cast<void>(m.interpreter().run(m.state, 64));  // the first, and its IRET
  static_cast<void>(m.interpreter().run(m.state, 1));
  EXPECT_EQ(m.state.rip, M::handler(2));
  EXPECT_EQ(m.state.gpr[RBX], rbx);
}

// What the guest makes a device do comes before the next instruction, not at the end of a batch.
TEST(Delivery, InterruptThatADeviceWriteRaisesComesAtOnce) {
  for (const bool by_port : {true, false}) {
    M m;
    m.long_mode();
    m.gate64(0x30);
    if (by_port)
      m.code({0xe6, 0x42, 0xff, 0xc3, 0xff, 0xc3});  // out 0x42, al; inc ebx; inc ebx
    else
      m.code({0x88, 0x06, 0xff, 0xc3, 0xff, 0xc3});  // mov [rsi], al
    m.state.gpr[RSI] = M::kMemory + 0x1000;          // no RAM
    m.state.rflags |= Rflags::IF;
    m.platform.answers_writes = true;
    const u64 rbx = m.state.gpr[RBX];
    for (int i = 0; i < 2; ++i) static_cast<void>(m.interpreter().run(m.state, 64));
    EXPECT_EQ(m.platform.port_writes.size() + m.platform.mmio_writes.size(), 1U);
    EXPECT_EQ(m.state.gpr[RBX], rbx);
    EXPECT_EQ(frame(m, 0), M::kCode + 2);
  }
}

TEST(Delivery, SingleStepTrapsAfterTheInstruction) {
  M m;
  m.long_mode();
  m.gate64(1);
  m.code({0x90});
  m.state.rflags |= Rflags::TF;
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(1));
  EXPECT_EQ(frame(m, 0), M::kCode + 1);
  EXPECT_NE(m.state.dr6 & (1 << 14), 0u);
  EXPECT_EQ(m.state.rflags & Rflags::TF, 0u);
}

TEST(Delivery, DataBreakpoint) {
  M m;
  m.long_mode();
  m.gate64(1);
  m.state.dr[2] = 0x20000;
  m.state.dr7 = 0x400 | 1 << 5 | u64{0xd} << 24;  // G2, write, 4 bytes
  m.code({0x89, 0x04, 0x25, 0, 0, 2, 0});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(1));
  EXPECT_EQ(m.state.dr6 & 0xf, 4u);
}

// Of the breakpoints, DR6 tells those of the last exception alone; the rest is the handler's to clear.
TEST(Delivery, BreakpointClearsEarlierOnes) {
  M m;
  m.long_mode();
  m.gate64(1);
  m.state.dr6 |= 1 << 14 | 1 << 1;  // BS, B1
  m.state.dr[2] = M::kCode;
  m.state.dr7 = 0x400 | 1 << 5;  // G2, execution
  m.code({0x90});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(1));
  EXPECT_EQ(m.state.dr6, 0xffff0ff0u | 1 << 14 | 1 << 2);
}

TEST(Delivery, RealModeInterrupt) {
  M m;
  m.real_mode();
  m.put(0x21 * 4, {0x34, 0x12, 0x00, 0x02});
  m.code({0xcd, 0x21});
  m.state.rflags |= Rflags::IF;
  m.steps(1);
  EXPECT_EQ(m.state.rip, 0x1234u);
  EXPECT_EQ(m.state.segment[CS].base, 0x2000u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack - 6);
  EXPECT_EQ(m.peek<u16>(M::kStack - 6), M::kCode + 2);
  EXPECT_EQ(m.peek<u16>(M::kStack - 2) & Rflags::IF, Rflags::IF);
  m.put(0x3234, {0xcf});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
}

TEST(Delivery, Legacy32ToInnerPrivilegeAndBack) {
  M m;
  m.protected_mode(3);
  m.gate32(0x80, 15, 3);
  m.poke<u32>(M::kTss + 4, 0x7000);
  m.poke<u32>(M::kTss + 8, M::kData);
  m.code({0xcd, 0x80});
  m.put(M::handler(0x80), {0xcf});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(0x80));
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(m.state.gpr[RSP], 0x7000u - 20);
  EXPECT_EQ(frame32(m, 0), M::kCode + 2);
  EXPECT_EQ(frame32(m, 3), M::kStack);
  EXPECT_EQ(frame32(m, 4), M::kUserData);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
}

TEST(Delivery, SegmentLimitAndType) {
  M m;
  m.protected_mode();
  m.gate32(13);
  m.state.segment[DS].limit = 0xfff;
  m.code({0xa1, 0xfd, 0x0f, 0, 0});  // mov eax, [0xffd]: one byte too far
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
  EXPECT_EQ(frame32(m, 0), 0u);
}

TEST(FarTransfer, RealToProtectedToLong) {
  M m;
  m.real_mode();
  // mov eax, 0x11; mov cr0, eax; jmp 0x28:0x2000
  m.code({0x66, 0xb8, 0x11, 0, 0, 0, 0x0f, 0x22, 0xc0, 0x66, 0xea, 0x00, 0x20, 0, 0, 0x28, 0});
  m.put(0x2000, {0xb8, 0x78, 0x56, 0x34, 0x12});  // mov eax, imm32: 32-bit code now
  m.steps(4);
  EXPECT_EQ(m.state.gpr[RAX], 0x12345678u);
  EXPECT_EQ(m.state.segment[CS].selector, M::kCode32);
}

TEST(FarTransfer, CallGateToInnerPrivilege) {
  M m;
  m.long_mode(3);
  m.poke<u64>(M::kTss + 4, 0x7000);
  // A 64-bit call gate at kSpare to kHandlers.
  m.poke<u64>(M::kGdt + M::kSpare, (M::kHandlers & 0xffff) | u64{M::kCode64} << 16 | u64{0xec} << 40);
  m.poke<u64>(M::kGdt + M::kSpare + 8, 0);
  m.put(M::kHandlers, {0x48, 0xcb});  // retfq
  m.poke<u32>(0x3000, 0);
  m.poke<u16>(0x3004, M::kSpare | 3);
  m.code({0xff, 0x1c, 0x25, 0x00, 0x30, 0, 0});  // call far [0x3000]
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kHandlers);
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(frame(m, 0), M::kCode + 7);
  EXPECT_EQ(frame(m, 1), M::kUserCode64);
  EXPECT_EQ(frame(m, 2), M::kStack);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 7);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
}

TEST(FarTransfer, ConformanceOfPrivileges) {
  M m;
  m.long_mode(3);
  m.gate64(13);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.poke<u32>(0x3000, 0x2000);
  m.poke<u16>(0x3004, M::kCode64 | 3);
  m.code({0xff, 0x2c, 0x25, 0x00, 0x30, 0, 0});  // jmp far into CPL 0 code
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
  EXPECT_EQ(frame(m, 0), M::kCode64);
}

TEST(FarTransfer, CompatibilityModeAndBack) {
  M m;
  m.long_mode();
  // push 0x28; push 0x2000; retfq into 32-bit code
  m.code({0x6a, 0x28, 0x68, 0, 0x20, 0, 0, 0x48, 0xcb});
  // mov eax, -1; inc eax (one byte, only outside 64-bit mode); jmp 0x08:0x2100
  m.put(0x2000, {0xb8, 0xff, 0xff, 0xff, 0xff, 0x40, 0xea, 0x00, 0x21, 0, 0, 0x08, 0});
  m.put(0x2100, {0x48, 0xff, 0xc8});  // dec rax
  m.steps(7);
  EXPECT_EQ(m.state.gpr[RAX], ~u64{0});
  EXPECT_TRUE(m.state.in_64bit_code());
}

TEST(FastCall, SyscallAndSysret) {
  M m;
  m.long_mode(3);
  m.state.star = u64{M::kCode64} << 32 | u64{M::kData | 3} << 48;  // sysret: +16 code, +8 data
  m.state.lstar = 0x2000;
  m.state.fmask = Rflags::IF | Rflags::CF;
  m.state.rflags |= Rflags::IF | Rflags::CF;
  m.code({0x0f, 0x05});
  m.put(0x2000, {0x48, 0x0f, 0x07});
  m.steps(1);
  EXPECT_EQ(m.state.rip, 0x2000u);
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(m.state.gpr[RCX], M::kCode + 2);
  EXPECT_EQ(m.state.gpr[R11], Rflags::fixed | Rflags::IF | Rflags::CF);
  EXPECT_EQ(m.state.rflags, Rflags::fixed);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.segment[CS].selector, M::kUserCode64);
  EXPECT_EQ(m.state.segment[SS].selector, M::kUserData);
  EXPECT_EQ(m.state.rflags, Rflags::fixed | Rflags::IF | Rflags::CF);
}

TEST(Interpreter, UndefinedAndPrivileged) {
  M m;
  m.long_mode(3);
  m.gate64(6);
  m.gate64(13);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.code({0x0f, 0x32});  // rdmsr
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));

  M u;
  u.long_mode();
  u.gate64(6);
  u.code({0xf0, 0x89, 0x00});  // lock mov
  u.steps(1);
  EXPECT_EQ(u.state.rip, M::handler(6));
}

TEST(Interpreter, HypercallsAreForRing0AndHaveTheWidthOfTheMode) {
  for (const u8 last : {u8{0xc1}, u8{0xd9}}) {  // vmcall, vmmcall
    M m;
    m.long_mode();
    m.state.gpr[x86::RAX] = 0xf'0000'0005;
    m.state.gpr[x86::RSI] = ~u64{0};
    m.code({0x0f, 0x01, last});
    m.steps(1);
    ASSERT_EQ(m.platform.hypercalls.size(), 1U);
    EXPECT_EQ(m.platform.hypercalls[0].number, 0xf'0000'0005U);
    EXPECT_EQ(m.platform.hypercalls[0].argument[3], ~u64{0});
    EXPECT_TRUE(m.platform.hypercalls[0].wide);
    EXPECT_EQ(m.state.gpr[x86::RAX], 0x1'0000'0007U);

    M user;
    user.long_mode(3);
    user.code({0x0f, 0x01, last});
    user.steps(1);
    EXPECT_TRUE(user.platform.hypercalls.empty());
    EXPECT_EQ(user.state.gpr[x86::RAX], ~u64{0});  // -EPERM
    EXPECT_EQ(user.state.rip, M::kCode + 3);

    M narrow;
    narrow.protected_mode();
    narrow.state.gpr[x86::RAX] = 0xf'0000'0005;
    narrow.code({0x0f, 0x01, last});
    narrow.steps(1);
    ASSERT_EQ(narrow.platform.hypercalls.size(), 1U);
    EXPECT_EQ(narrow.platform.hypercalls[0].number, 5U);
    EXPECT_FALSE(narrow.platform.hypercalls[0].wide);
    EXPECT_EQ(narrow.state.gpr[x86::RAX], 7U);
  }
}

TEST(Interpreter, FetchAcrossPagesFaultsAtTheSecond) {
  M m;
  m.long_mode();
  m.gate64(14);
  m.set_pte(0x3000, 0);
  m.put(0x2ffe, {0x48, 0xb8});
  m.state.rip = 0x2ffe;
  m.steps(1);
  EXPECT_EQ(m.state.cr2, 0x3000u);
  EXPECT_EQ(frame(m, 1), 0x2ffeu);
}

TEST(Interpreter, SelfModifyingCodeIsSeen) {
  M m;
  m.long_mode();
  m.code({0xb0, 0x01, 0xeb, 0xfc});  // mov al, 1; jmp back
  m.steps(2);
  EXPECT_EQ(m.state.gpr[RAX], 1u);
  m.put(M::kCode, {0xb0, 0x02});
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RAX], 2u);
}

TEST(Interpreter, WritesToCodePagesAreReported) {
  M m;
  m.long_mode();
  m.page_flags(0x20000) = memory::PageFlag::code;
  m.code({0x89, 0x04, 0x25, 0x10, 0, 2, 0});
  m.steps(1);
  ASSERT_EQ(m.observer.written.size(), 1u);
  EXPECT_EQ(m.observer.written[0], (std::pair<u64, usize>{0x20010, 4}));
}

TEST(Interpreter, InvlpgDropsACachedTranslation) {
  M m;
  m.long_mode();
  m.gate64(14);
  // mov eax,[0x20000]; invlpg [0x20000]; mov eax,[0x20000]
  m.code({0x8b, 0x04, 0x25, 0, 0, 2, 0, 0x0f, 0x01, 0x3c, 0x25, 0, 0, 2, 0, 0x8b, 0x04, 0x25, 0, 0, 2, 0});
  m.steps(1);
  m.set_pte(0x20000, 0);
  m.steps(1);
  EXPECT_EQ(m.observer.page, 1);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(14));
}

TEST(Interpreter, InvlpgDropsAWholeLargePage) {
  M m;
  m.long_mode();
  m.gate64(14);
  // The second 2 MiB of linear space are one large page.
  constexpr u64 entry = M::kTables + 0x2008;
  m.poke<u64>(entry, Pte::P | Pte::RW | Pte::PS | Pte::A | Pte::D);
  // mov eax,[0x200000]; mov eax,[0x345000]; invlpg [0x200000]; mov eax,[0x345000]
  m.code({0x8b, 0x04, 0x25, 0, 0, 0x20, 0, 0x8b, 0x04, 0x25, 0, 0x50, 0x34, 0, 0x0f,
          0x01, 0x3c, 0x25, 0, 0, 0x20, 0, 0x8b, 0x04, 0x25, 0, 0x50, 0x34, 0});
  m.steps(2);
  m.poke<u64>(entry, 0);
  m.steps(2);
  EXPECT_EQ(m.state.rip, M::handler(14));
  EXPECT_EQ(m.state.cr2, 0x345000u);
}

TEST(Interpreter, GlobalTranslationsSurviveMovCr3) {
  M m;
  m.long_mode();
  m.gate64(14);
  constexpr u64 bits = Pte::P | Pte::RW | Pte::A;
  m.set_pte(0x20000, 0x20000 | bits | Pte::G);
  m.set_pte(0x21000, 0x21000 | bits);
  m.state.gpr[RCX] = M::kTables;
  // mov eax,[0x20000]; mov eax,[0x21000]; mov cr3,rcx; mov eax,[0x20000]; mov eax,[0x21000]
  m.code({0x8b, 0x04, 0x25, 0,    0, 2, 0, 0x8b, 0x04, 0x25, 0,    0x10, 2,    0, 0x0f, 0x22,
          0xd9, 0x8b, 0x04, 0x25, 0, 0, 2, 0,    0x8b, 0x04, 0x25, 0,    0x10, 2, 0});
  m.steps(2);
  m.set_pte(0x20000, 0);
  m.set_pte(0x21000, 0);
  m.steps(2);
  EXPECT_EQ(m.state.rip, M::kCode + 24);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(14));
  EXPECT_EQ(m.state.cr2, 0x21000u);
}

TEST(Interpreter, RepMovsStopsExactlyAtTheFault) {
  M m;
  m.long_mode();
  m.gate64(14);
  m.set_pte(0x21000, 0);
  for (u64 n = 0; n < 0x1000; ++n) m.poke<u8>(0x30000 + n, static_cast<u8>(n));
  m.state.gpr[RSI] = 0x30000;
  m.state.gpr[RDI] = 0x20ff0;
  m.state.gpr[RCX] = 100;
  m.code({0xf3, 0xa4});
  while (m.state.rip == M::kCode) ASSERT_EQ(m.step(), StepResult::Executed);
  EXPECT_EQ(m.state.rip, M::handler(14));
  EXPECT_EQ(m.state.cr2, 0x21000u);
  EXPECT_EQ(m.state.gpr[RCX], 84u);
  EXPECT_EQ(m.state.gpr[RSI], 0x30010u);
  EXPECT_EQ(m.state.gpr[RDI], 0x21000u);
  EXPECT_EQ(m.peek<u8>(0x20fff), 15);
  EXPECT_EQ(frame(m, 1), M::kCode);
}

TEST(Interpreter, RepneScasFindsAByte) {
  M m;
  m.long_mode();
  m.put(0x20000, {1, 2, 3, 0, 5});
  m.state.gpr[RDI] = 0x20000;
  m.state.gpr[RCX] = ~u64{0};
  m.code({0xf2, 0xae});
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RDI], 0x20004u);
  EXPECT_EQ(m.state.gpr[RCX], ~u64{0} - 4);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
}

TEST(Interpreter, PortsAskTheBitmap) {
  M m;
  m.long_mode(3);
  m.gate64(13);
  m.poke<u64>(M::kTss + 4, 0x7000);
  m.poke<u16>(M::kTss + 0x66, 0x68);
  m.state.tr.limit = 0x68 + 0x20;
  m.poke<u8>(M::kTss + 0x68 + (0x60 >> 3), 0xfe);  // 0x60 allowed, its neighbours not
  m.code({0xe4, 0x60, 0xe4, 0x61});
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RAX], 0xa4u);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
}

TEST(Interpreter, MovToCr3FlushesNonGlobal) {
  M m;
  m.long_mode();
  m.state.gpr[RAX] = M::kTables;
  m.code({0x0f, 0x22, 0xd8});
  m.steps(1);
  EXPECT_EQ(m.observer.non_global, 1);
  EXPECT_EQ(m.observer.all, 0);
}

TEST(Interpreter, ControlRegisterChecks) {
  struct Bad {
    const char* what;
    std::initializer_list<int> code;
    u64 rax;
  };
  const Bad bad[] = {
      {"PG without PE", {0x0f, 0x22, 0xc0}, 0x80000000},
      {"NW without CD", {0x0f, 0x22, 0xc0}, 0x20000011},
      {"PG off in 64-bit mode", {0x0f, 0x22, 0xc0}, 0x11},
      {"upper half of CR0", {0x0f, 0x22, 0xc0}, u64{1} << 32 | 0x80000011},
      {"PAE off in long mode", {0x0f, 0x22, 0xe0}, 0},
      {"unknown CR4 bit", {0x0f, 0x22, 0xe0}, u64{1} << 31 | Cr4::PAE},
      {"reserved CR3 bit", {0x0f, 0x22, 0xd8}, u64{1} << 60},
      {"CR8 above 15", {0x44, 0x0f, 0x22, 0xc0}, 16},
  };
  for (const Bad& b : bad) {
    SCOPED_TRACE(b.what);
    M m;
    m.long_mode();
    m.gate64(13);
    m.code(b.code);
    m.state.gpr[RAX] = b.rax;
    m.steps(1);
    EXPECT_EQ(m.state.rip, M::handler(13));
  }
}

TEST(Interpreter, MsrsRoundTripAndUnknownOnesFault) {
  M m;
  m.long_mode();
  m.gate64(13);
  m.code({0x0f, 0x30, 0x0f, 0x32});  // wrmsr; rdmsr
  m.state.gpr[RCX] = static_cast<u32>(Msr::IA32_LSTAR);
  m.state.gpr[RAX] = 0x81000000;
  m.state.gpr[RDX] = 0xffffffff;
  m.steps(1);
  EXPECT_EQ(m.state.lstar, 0xffffffff81000000);
  m.state.gpr[RAX] = m.state.gpr[RDX] = 0;
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RAX], 0x81000000u);
  EXPECT_EQ(m.state.gpr[RDX], 0xffffffffu);
  m.state.rip = M::kCode;
  m.state.gpr[RCX] = 0x12345;
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
}

TEST(Interpreter, LockCmpxchg16b) {
  M m;
  m.long_mode();
  m.poke<u64>(0x20000, 1);
  m.poke<u64>(0x20008, 2);
  m.state.gpr[RAX] = 1;
  m.state.gpr[RDX] = 2;
  m.state.gpr[RBX] = 3;
  m.state.gpr[RCX] = 4;
  m.code({0xf0, 0x48, 0x0f, 0xc7, 0x0c, 0x25, 0, 0, 2, 0});
  m.steps(1);
  EXPECT_NE(m.state.rflags & Rflags::ZF, 0u);
  EXPECT_EQ(m.peek<u64>(0x20000), 3u);
  EXPECT_EQ(m.peek<u64>(0x20008), 4u);
}

TEST(Interpreter, LoadingSegmentsChecksThem) {
  M m;
  m.protected_mode();
  m.gate32(13);
  m.gate32(11);
  m.set_descriptor(M::kSpare, 0x00cf13000000ffff);  // not present
  m.state.gpr[RAX] = M::kSpare;
  m.code({0x8e, 0xd8});
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(11));
  EXPECT_EQ(frame32(m, 0), M::kSpare);

  M n;
  n.protected_mode();
  n.set_descriptor(M::kSpare, 0x00cf92000000ffff);  // not yet accessed
  n.state.gpr[RAX] = M::kSpare;
  n.code({0x8e, 0xd8});
  n.steps(1);
  EXPECT_EQ(n.state.segment[DS].selector, M::kSpare);
  EXPECT_EQ(n.peek<u8>(M::kGdt + M::kSpare + 5), 0x93);
}

}  // namespace
}  // namespace nacre::interp
