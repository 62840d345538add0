// The comparison finds what it should and nothing else, on small programs. Whole kernels: guest/tests/verify.
#include "engine/lockstep/lock_step.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>

#include "engine/conformance/machine.hpp"
#include "host/signals.hpp"

namespace nacre::lockstep {
namespace {

using engine::ExitReason;
using conformance::Machine;
using ::testing::HasSubstr;
using ::testing::Not;

// Answers differently each time, and counts; may want to interrupt.
class Outside final : public conformance::QuietPlatform {
 public:
  u64 mmio_read(GuestPhysical, unsigned) override { return ++answers; }
  u32 port_read(u16, unsigned) override { return static_cast<u32>(++answers); }
  void port_write(u16 port, unsigned, u32 value) override { written.push_back({port, value}); }
  bool msr_write(u32, u64 value) override {
    // As the paravirtual clock: the board writes to memory.
    return memory->write(GuestPhysical(value), &value, sizeof value);
  }
  bool interrupt_pending() override { return interrupts != 0 && ++asked / 16 % 2 != 0; }
  int acknowledge_interrupt() override {
    --interrupts;
    return 31;
  }
  u64 tsc() override { return ++answers; }
  u64 random() override { return ++answers; }

  u64 answers = 0, asked = 0, interrupts = 0;
  std::vector<std::pair<u16, u32>> written;
  memory::AddressSpace* memory = nullptr;
};

class LockStep : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }
  void SetUp() override {
    stack_.emplace(host::SignalStack::enter().take());
    options_.blocks = 3;
    options_.stop_every = 4;
  }

  ExitReason run(const std::vector<u8>& code) {
    machine_.emplace(
        [this](const engine::EngineContext& context) { return make(context, options_, outcome_); },
        &outside_);
    outside_.memory = &machine_->space;
    machine_->load(conformance::kProgram, code);
    return machine_->run();
  }
  // The last comparison of memory is made when the vCPU goes.
  void finish() { machine_->vcpu.reset(); }
  void run_without_difference(const std::vector<u8>& code) {
    EXPECT_EQ(run(code), ExitReason::Halted);
    finish();
    EXPECT_FALSE(outcome_.diverged) << outcome_.report;
    EXPECT_GE(outcome_.memory_checks, 1U);
  }

  Options options_;
  Outcome outcome_;
  Outside outside_;
  std::optional<Machine> machine_;

 private:
  std::optional<host::SignalStack> stack_;
};

GUEST_CODE(busy, R"(
  mov $200, %ecx
  mov $0x100000, %esi
  lea 3f(%rip), %r11
1: mov %rcx, %rax
  bswap %rax
  add %rax, (%rsi)
  adc %rcx, 8(%rsi)
  pushfq
  popq 16(%rsi)
  call 2f
  call *%r11
  paddd %xmm1, %xmm0
  lea 24(%rsi), %rsi
  cmp $0x101ff0, %rsi
  jb 4f
  mov $0x100000, %esi
4: dec %ecx
  jnz 1b
  hlt
2: push %rbx
  imul %rcx, %rbx
  xor (%rsi), %rbx
  pop %r13
  ret
3: add $1, %r13
  btcl $3, (%rsi)
  ret)")

TEST_F(LockStep, NothingIsFoundWhereNothingIs) {
  run_without_difference(busy);
  EXPECT_GT(outcome_.instructions, 200U * 20);
  EXPECT_GT(outcome_.stops, 50U);
}

TEST_F(LockStep, AWrongTranslationIsFoundAndShown) {
  options_.mistranslate = "bswap";
  options_.blocks = 1;
  EXPECT_EQ(run(busy), ExitReason::Failed);
  EXPECT_TRUE(outcome_.diverged);
  EXPECT_THAT(outcome_.report, HasSubstr("48 0f c8"));
  EXPECT_THAT(outcome_.report, HasSubstr("bswap rax"));
  EXPECT_THAT(outcome_.report, HasSubstr("c800000000000001   c800000000000000"));  // what was added to memory
  EXPECT_THAT(outcome_.report, Not(HasSubstr("rcx ")));
}

TEST_F(LockStep, AStopMayComeAtAnyInstructionOfTheHost) {
  options_.stop_every = 1;
  run_without_difference(busy);
  EXPECT_EQ(outcome_.stops, outcome_.steps);
}

GUEST_CODE(halts, "mov $1, %eax\n hlt")

TEST_F(LockStep, AWriteThatWentAstrayIsFoundAtTheEnd) {
  EXPECT_EQ(run(halts), ExitReason::Halted);
  machine_->put64(0x123458, 0xfeed);
  finish();
  EXPECT_TRUE(outcome_.diverged);
  EXPECT_THAT(outcome_.report, HasSubstr("[00000123458]        000000000000feed   0000000000000000"));
}

GUEST_CODE(devices, R"(
  mov $200, %ebx
  mov $0x3000000, %edi
1: in $0x60, %al
  add %rax, %r8
  movb %al, 0x100000
  out %eax, $0x80
  rdtsc
  xor %rax, %r8
  rdrand %r9
  xor %r9, %r8
  mov $0x4b564d01, %ecx
  xor %edx, %edx
  mov $0x100100, %eax
  wrmsr
  xor 0x100100, %r8
  lea 0x100200, %rdi
  mov $70, %edx
  mov $5, %ecx
  rep insb
  dec %ebx
  jnz 1b
  hlt)")

TEST_F(LockStep, DevicesSeeEverythingOnce) {
  run_without_difference(devices);
  EXPECT_EQ(outside_.written.size(), 200U);
  EXPECT_EQ(outside_.answers, 200U * 8);
}

// "mov r15d, n; hlt" at each vector, as Machine has them, does for the faults; they end the run.
GUEST_CODE(divides, "mov $5, %eax\n xor %edx, %edx\n xor %ecx, %ecx\n div %ecx\n hlt")
GUEST_CODE(string_into_nothing, R"(
  mov $0xfff000, %edi
  mov $0x100000, %esi
  mov $0x2000, %ecx
  rep movsb
  hlt)")
GUEST_CODE(rewrites_itself, R"(
  mov $300, %ecx
1: lea 2f+1(%rip), %rbx
  mov %cl, (%rbx)
2: mov $0, %al
  add %rax, %r8
  dec %ecx
  jnz 1b
  hlt)")

TEST_F(LockStep, ExceptionsAreCompared) {
  run_without_difference(divides);
  EXPECT_EQ(outcome_.exceptions, 1U);
}

TEST_F(LockStep, AStringThatFaultsInItsMiddle) {
  run_without_difference(string_into_nothing);
  EXPECT_EQ(outcome_.exceptions, 1U);
}

TEST_F(LockStep, SelfModifyingCode) {
  run_without_difference(rewrites_itself);
}

GUEST_CODE(waits, R"(
  lea 3f(%rip), %rax
  mov %ax, 0x61f0
  movw $8, 0x61f2
  movw $0x8e00, 0x61f4
  shr $16, %rax
  mov %ax, 0x61f6
  mov $600, %ecx
1: sti
  imul %rcx, %rbx
  add %rcx, (%rsp,%rcx,8)
  mov %rbx, -8(%rsp)
  cli
  dec %ecx
  jnz 1b
  hlt
3: incl 0x100000
  sti
  iretq)")

TEST_F(LockStep, InterruptsComeAtTheSameInstruction) {
  outside_.interrupts = 20;
  options_.stop_every = 2;
  run_without_difference(waits);
  EXPECT_EQ(outcome_.interrupts, 20U);
  EXPECT_EQ(outside_.interrupts, 0U);
}

}  // namespace
}  // namespace nacre::lockstep
