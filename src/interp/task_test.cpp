// Hardware task switches. SDM vol. 3, chapter 7.
#include <gtest/gtest.h>

#include "interp/test_machine.hpp"

namespace nacre::interp {
namespace {

using M = Machine;

constexpr u64 kNewTss = 0xb800, kNewCode = 0x2000, kNewStack = 0x7000;
constexpr u16 kNewTask = 0x50, kGate = 0x58;
constexpr u64 kAvailable = u64{0x89} << 40, kBusy = u64{2} << 40;

u64 tss_descriptor(u64 base, u64 type) {
  return (base & 0xffffff) << 16 | type | 0x67;
}

// A 32-bit machine in ring 0 with a second task.
struct Tasks : M {
  Tasks() {
    protected_mode();
    set_descriptor(kNewTask, tss_descriptor(kNewTss, kAvailable));
    set_descriptor(kGate, u64{kNewTask} << 16 | u64{0x85} << 40);
    poke<u32>(kNewTss + 0x1c, 0);
    poke<u32>(kNewTss + 0x20, kNewCode);
    poke<u32>(kNewTss + 0x24, 0x2);
    for (unsigned i = 0; i < 8; ++i) poke<u32>(kNewTss + 0x28 + 4 * i, 0x11110000 + i);
    poke<u32>(kNewTss + 0x38, kNewStack);
    for (unsigned i = 0; i < 6; ++i) poke<u16>(static_cast<u64>(kNewTss + 0x48 + 4 * i), i == 1 ? kCode32 : kData);
    state.gpr[x86::RAX] = 0xaaaa;
    gate32(10);
    gate32(11);
    gate32(12);
    gate32(13);
  }
  [[nodiscard]] bool busy(u16 selector) const { return (peek<u64>(kGdt + selector) & kBusy) != 0; }
};

void far_to(M& m, int opcode, u16 selector) {
  m.code({opcode, 0, 0, 0, 0, selector & 0xff, selector >> 8});
}
constexpr int kCall = 0x9a, kJump = 0xea, kIret = 0xcf;

TEST(Task, a_jump_saves_one_task_and_starts_the_other) {
  Tasks m;
  far_to(m, kJump, kNewTask);
  m.steps(1);
  EXPECT_EQ(m.state.rip, kNewCode);
  EXPECT_EQ(m.state.gpr[x86::RAX], 0x11110000u);
  EXPECT_EQ(m.state.gpr[x86::RSP], kNewStack);
  EXPECT_EQ(m.state.tr.selector, kNewTask);
  EXPECT_EQ(m.state.tr.type(), 11u);
  EXPECT_FALSE(m.busy(M::kTssSelector));
  EXPECT_TRUE(m.busy(kNewTask));
  EXPECT_NE(m.state.cr0 & x86::Cr0::TS, 0u);
  EXPECT_EQ(m.state.rflags & Rflags::NT, 0u);
  EXPECT_EQ(m.peek<u32>(M::kTss + 0x20), M::kCode + 7);
  EXPECT_EQ(m.peek<u32>(M::kTss + 0x28), 0xaaaau);
  EXPECT_EQ(m.peek<u16>(M::kTss + 0x4c), M::kCode32);
}

TEST(Task, a_call_nests_and_iret_comes_back) {
  for (const u16 target : {kNewTask, kGate}) {
    Tasks m;
    far_to(m, kCall, target);
    m.put(kNewCode, {kIret});
    m.steps(1);
    EXPECT_EQ(m.peek<u16>(kNewTss), M::kTssSelector);
    EXPECT_NE(m.state.rflags & Rflags::NT, 0u);
    EXPECT_TRUE(m.busy(M::kTssSelector));
    EXPECT_TRUE(m.busy(kNewTask));
    m.steps(1);
    EXPECT_EQ(m.state.rip, M::kCode + 7);
    EXPECT_EQ(m.state.gpr[x86::RAX], 0xaaaau);
    EXPECT_EQ(m.state.tr.selector, M::kTssSelector);
    EXPECT_FALSE(m.busy(kNewTask));
    EXPECT_TRUE(m.busy(M::kTssSelector));
    EXPECT_EQ(m.state.rflags & Rflags::NT, 0u);
    EXPECT_EQ(m.peek<u32>(kNewTss + 0x24) & Rflags::NT, 0u);
    EXPECT_EQ(m.peek<u32>(kNewTss + 0x20), kNewCode + 1);
  }
}

TEST(Task, an_exception_through_a_task_gate_leaves_its_error_code_on_the_new_stack) {
  Tasks m;
  m.poke<u64>(M::kIdt + 8 * 13, u64{kNewTask} << 16 | u64{0x85} << 40);
  m.code({0x8e, 0xd8});  // mov ds, ax: a selector outside the GDT
  m.steps(1);
  EXPECT_EQ(m.state.rip, kNewCode);
  EXPECT_EQ(m.state.gpr[x86::RSP], kNewStack - 4);
  EXPECT_EQ(m.peek<u32>(kNewStack - 4), 0xaaa8u);
  EXPECT_EQ(m.peek<u32>(M::kTss + 0x20), M::kCode);
  EXPECT_NE(m.peek<u32>(M::kTss + 0x24) & Rflags::RF, 0u);
  EXPECT_NE(m.state.rflags & Rflags::NT, 0u);
}

struct Refusal {
  const char* name;
  u64 descriptor;
  unsigned vector;
  u32 error;
};

TEST(Task, descriptors_that_cannot_be_switched_to_are_faults_of_the_old_task) {
  const Refusal refusals[] = {
      {"busy", tss_descriptor(kNewTss, kAvailable | kBusy), 13, kNewTask},
      {"not present", tss_descriptor(kNewTss, kAvailable & ~(u64{1} << 47)), 11, kNewTask},
      {"short", tss_descriptor(kNewTss, kAvailable) - 1, 10, kNewTask},
      {"an LDT", tss_descriptor(kNewTss, u64{0x82} << 40), 13, kNewTask},
  };
  for (const Refusal& refusal : refusals) {
    for (const int opcode : {kCall, kJump}) {
      Tasks m;
      m.set_descriptor(kNewTask, refusal.descriptor);
      far_to(m, opcode, kNewTask);
      m.steps(1);
      EXPECT_EQ(m.state.rip, M::handler(refusal.vector)) << refusal.name;
      EXPECT_EQ(m.peek<u32>(m.state.gpr[x86::RSP]), refusal.error) << refusal.name;
      EXPECT_EQ(m.state.tr.selector, M::kTssSelector);
      EXPECT_TRUE(m.busy(M::kTssSelector));
    }
  }
}

TEST(Task, segments_that_cannot_be_loaded_are_faults_of_the_new_task) {
  struct Case {
    unsigned offset;
    u16 selector;
    unsigned vector;
    u32 error;
  };
  const Case cases[] = {
      {0x48, M::kSpare + 0x100, 10, M::kSpare + 0x100},  // ES outside the GDT
      {0x54, M::kTssSelector, 10, M::kTssSelector},      // DS a system descriptor
      {0x60, M::kData, 10, M::kData},                    // LDTR not an LDT
      {0x58, 0x60, 11, 0x60},                            // FS not present
  };
  for (const Case& one : cases) {
    Tasks m;
    m.set_descriptor(0x60, 0x00cf13000000ffff);
    m.poke<u16>(kNewTss + one.offset, one.selector);
    far_to(m, kJump, kNewTask);
    m.steps(1);
    EXPECT_EQ(m.state.tr.selector, kNewTask) << one.offset;
    if (one.offset == 0x60) {  // before the stack is known: the fault cannot be delivered either
      EXPECT_EQ(m.state.activity, cpu::Activity::Shutdown);
      continue;
    }
    EXPECT_EQ(m.state.rip, M::handler(one.vector)) << one.offset;
    EXPECT_EQ(m.peek<u32>(m.state.gpr[x86::RSP]), one.error) << one.offset;
    EXPECT_EQ(m.peek<u32>(m.state.gpr[x86::RSP] + 4), kNewCode);
  }
}

TEST(Task, sixteen_bit_state_is_saved_and_loaded) {
  Tasks m;
  m.set_descriptor(kNewTask, (kNewTss << 16) | u64{0x81} << 40 | 0x2b);
  for (u64 at = 0; at < 0x2c; at += 2) m.poke<u16>(kNewTss + at, 0);
  m.poke<u16>(kNewTss + 0x0e, kNewCode);
  m.poke<u16>(kNewTss + 0x12, 0x4321);
  m.poke<u16>(kNewTss + 0x1a, kNewStack);
  for (const unsigned offset : {0x22u, 0x26u, 0x28u}) m.poke<u16>(kNewTss + offset, M::kData);
  m.poke<u16>(kNewTss + 0x24, M::kCode32);
  far_to(m, kCall, kNewTask);
  m.put(kNewCode, {kIret});
  m.steps(1);
  EXPECT_EQ(m.state.rip, kNewCode);
  EXPECT_EQ(m.state.gpr[x86::RAX] & 0xffff, 0x4321u);
  EXPECT_FALSE(m.state.segment[x86::FS].present());
  EXPECT_EQ(m.state.tr.type(), 3u);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 7);
  EXPECT_EQ(m.peek<u16>(kNewTss + 0x0e), kNewCode + 1);
}

TEST(Task, the_debug_bit_traps_before_the_first_instruction) {
  Tasks m;
  m.gate32(1);
  m.poke<u16>(kNewTss + 0x64, 1);
  far_to(m, kJump, kNewTask);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(1));
  EXPECT_NE(m.state.dr6 & 1 << 15, 0u);
  EXPECT_EQ(m.peek<u32>(m.state.gpr[x86::RSP]), kNewCode);
}

TEST(Task, iret_with_a_bad_back_link_is_an_invalid_tss) {
  for (const u16 link : {u16{0}, u16{M::kData}, kNewTask, u16{kNewTask | 4}}) {
    Tasks m;
    m.state.rflags |= Rflags::NT;
    m.poke<u16>(M::kTss, link);
    m.code({kIret});
    m.steps(1);
    EXPECT_EQ(m.state.rip, M::handler(10)) << link;
    EXPECT_EQ(m.peek<u32>(m.state.gpr[x86::RSP]), link & ~3u) << link;
  }
}

TEST(Task, a_virtual_8086_task_starts_in_its_mode) {
  Tasks m;
  m.poke<u32>(kNewTss + 0x24, Rflags::VM | 2);
  m.poke<u32>(kNewTss + 0x20, 0x10);
  m.poke<u16>(kNewTss + 0x4c, 0x200);
  far_to(m, kJump, kNewTask);
  m.steps(1);
  EXPECT_EQ(m.state.segment[x86::CS].base, 0x2000u);
  EXPECT_EQ(m.state.rip, 0x10u);
  EXPECT_EQ(m.state.cpl(), 3u);
  EXPECT_EQ(m.state.segment[x86::DS].limit, 0xffffu);
}

}  // namespace
}  // namespace nacre::interp
