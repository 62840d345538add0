// UserVcpu beside the interpreter: a user program that a kernel is called from in all the ways there are. On
// any /dev/kvm, though meant for one that emulates.
#include "engine/kvm/user_vcpu.hpp"

#include <gtest/gtest.h>

#include <optional>

#include "engine/conformance/machine.hpp"
#include "engine/conformance/same_end.hpp"
#include "engine/interp/interp_vcpu.hpp"
#include "engine/kvm/kvm.hpp"
#include "host/signals.hpp"

namespace nacre::kvm {
namespace {

using conformance::kProgram;
using engine::DirectMode;

constexpr u64 kUser = 0x160000, kUserStack = 0x170000, kData = 0x180000, kFrames = 0x190000,
              kTaskState = 0x1c0000;
constexpr u64 kPageTable = 0x200000;

// Counts at 0x300000 + 8 n: system calls, #DB, #BP, #UD, #PF.
GUEST_CODE(kernel, R"(
  mov $0x160000, %ecx
  mov $0x202, %r11d
  mov $0x171000, %esp
  sysretq
  .org code_kernel + 0x800
  incq 0x300000
  test %eax, %eax
  jz 1f
  mov %rbx, 0x200c00
  invlpg 0x180000
  sysretq
1: hlt
  .org code_kernel + 0x900
  incq 0x300008
  andl $~0x100, 16(%rsp)
  iretq
  .org code_kernel + 0xa00
  incq 0x300010
  iretq
  .org code_kernel + 0xb00
  incq 0x300018
  addq $2, (%rsp)
  iretq
  .org code_kernel + 0xc00
  incq 0x300020
  add $8, %rsp
  movq $0x190007, 0x200c00
  iretq)")

// R8: what was read; R9: how often the loop went.
GUEST_CODE(user, R"(
  xor %r8d, %r8d
  xor %r9d, %r9d
  mov $3, %ebp
1: mov $400000, %edx
2: inc %r9
  dec %edx
  jnz 2b
  add 0x180000, %r8
  int3
  ud2
  .byte 0xcd, 3
  add 0x180000, %r8
  mov $1, %eax
  mov $0x191007, %ebx
  syscall
  add 0x180000, %r8
  mov $0, %ebx
  mov $2, %eax
  syscall
  add 0x180000, %r8
  pushfq
  orl $0x100, (%rsp)
  popfq
  nop
  .byte 0x2e
  syscall
  movaps %xmm0, %xmm1
  addsd %xmm2, %xmm1
  dec %ebp
  jnz 1b
  xor %eax, %eax
  syscall)")

void prepare(conformance::Machine& m) {
  m.load(kProgram, kernel);
  m.load(kUser, user);
  for (u64 i = 0; i < 4; i++) m.put64(kFrames + i * kPageSize, u64{0x1000} << (8 * i));
  for (const u64 entry : {conformance::kTables, conformance::kTables + 0x1000, conformance::kTables + 0x2000})
    m.put64(entry, m.get64(entry) | 4);
  for (const u64 page : {kUser, kUserStack}) m.put64(kPageTable + (page >> 12) * 8, page | 7);
  m.put64(kPageTable + (kData >> 12) * 8, 0);
  // Where Linux has them: 28H data, 30H code; and a task state for the kernel's stack.
  m.put64(0x5028, 0x00cff3000000ffff);
  m.put64(0x5030, 0x00affb000000ffff);
  m.put64(kTaskState + 4, conformance::kStackTop);
  const auto gate = [&](u64 vector, u64 handler, u64 privilege) {
    m.put64(0x6000 + 16 * vector,
            (handler & 0xffff) | 8 << 16 | (0x8e00 | privilege << 13) << 32 | handler >> 16 << 48);
  };
  gate(1, kProgram + 0x900, 0), gate(3, kProgram + 0xa00, 3), gate(6, kProgram + 0xb00, 0),
      gate(14, kProgram + 0xc00, 0);
  cpu::State& s = m.vcpu->state();
  s.gdtr.limit = 0x4f;
  s.tr = {0x40, 0x8b, 0x67, kTaskState};
  for (const auto i : {x86::DS, x86::ES, x86::FS, x86::GS}) s.segment[i] = {};
  s.efer |= x86::Efer::SCE;
  s.star = u64{8} << 32 | u64{0x23} << 48;
  s.lstar = kProgram + 0x800;
  s.fmask = 0x300;
}

class User : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }
  void SetUp() override {
    const Fitness fitness = kvm::fitness();
    if (!fitness.usable) GTEST_SKIP() << fitness.why_not.message();
    if (fitness.fast) GTEST_SKIP() << "This KVM does not emulate.";
    stack_.emplace(host::SignalStack::enter().take());
  }
  std::unique_ptr<conformance::Machine> machine(std::optional<DirectMode> kvm) {
    const auto maker = [this,
                        kvm](const engine::EngineContext& context) -> Result<std::unique_ptr<engine::Vcpu>> {
      if (!kvm) return engine::make_interp(context);
      group_ = TRY(make_group(context.memory, false));
      engine::EngineContext wanted{context.memory, context.platform, context.model};
      wanted.direct = *kvm;
      wanted.group = group_.get();
      return make(wanted);
    };
    auto made = std::make_unique<conformance::Machine>(maker);
    prepare(*made);
    return made;
  }

 private:
  std::unique_ptr<engine::Group> group_;
  std::optional<host::SignalStack> stack_;
};

TEST_F(User, ways_into_the_kernel_and_back) {
  auto interp = machine(std::nullopt);
  ASSERT_EQ(interp->run(), engine::ExitReason::Halted);
  EXPECT_EQ(interp->vcpu->state().gpr[x86::R9], 1200000u);
  for (const auto& [at, count] : {std::pair{0, 10u}, {8, 3u}, {0x10, 6u}, {0x18, 3u}, {0x20, 6u}})
    EXPECT_EQ(interp->get64(0x300000 + static_cast<u64>(at)), count) << at;
  for (const DirectMode mode : {DirectMode::Auto, DirectMode::Always}) {
    auto kvm = machine(mode);
    ASSERT_EQ(kvm->run(), engine::ExitReason::Halted);
    conformance::expect_same_end(*interp, *kvm);
  }
}

}  // namespace
}  // namespace nacre::kvm
