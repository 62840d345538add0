// User programs run by the soft engine with direct execution forced, and by the interpreter: same registers,
// same data. What ends a program is a fault that a ring-0 handler halts at, with the vector in R15.
#include "engine/direct/direct.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <thread>

#include "engine/direct/direct_machine.hpp"
#include "host/signals.hpp"

namespace nacre::direct {
namespace {

class DirectTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }
  void SetUp() override { stack_.emplace(host::SignalStack::enter().take()); }

  // The same on both; returns the direct one.
  std::unique_ptr<Machine> run_both(const std::vector<u8>& code, u64 at = kUser,
                                    void (*prepare)(Machine&) = nullptr) {
    Machine interp(engine::DirectMode::Off, false);
    auto direct = std::make_unique<Machine>(engine::DirectMode::Always);
    for (Machine* m : {&interp, direct.get()}) {
      m->load(at, code);
      m->vcpu->state().rip = at;
      if (prepare != nullptr) prepare(*m);
      EXPECT_EQ(m->run(), engine::ExitReason::Halted);
    }
    const cpu::State& a = interp.vcpu->state();
    const cpu::State& b = direct->vcpu->state();
    for (int i = 0; i < 16; i++) EXPECT_EQ(a.gpr[i], b.gpr[i]) << "register " << i;
    EXPECT_EQ(a.rip, b.rip);
    EXPECT_EQ(a.cr2, b.cr2);
    EXPECT_EQ(a.rflags, b.rflags);
    EXPECT_EQ(a.segment[x86::FS].base, b.segment[x86::FS].base);
    EXPECT_EQ(std::memcmp(interp.base + kUser, direct->base + kUser, kUserStack - kUser), 0);
    EXPECT_EQ(std::memcmp(interp.base + kData, direct->base + kData, 0x40000), 0);
    return direct;
  }

 private:
  std::optional<host::SignalStack> stack_;
};

GUEST_CODE(sum, R"(
  mov $1000000, %ecx
  xor %eax, %eax
1: add %rcx, %rax
  mov %rax, 0x100000
  dec %rcx
  jnz 1b
  syscall)")

TEST_F(DirectTest, computes_and_comes_back_at_a_system_call) {
  const auto m = run_both(sum);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RAX], 500000500000U);
  EXPECT_EQ(m->get64(kData), 500000500000U);
  EXPECT_EQ(m->vcpu->state().gpr[x86::R15], 0x80U);
}

GUEST_CODE(vectors, R"(
  mov $0x100000, %edi
  mov $7, %eax
  cvtsi2sd %eax, %xmm9
  sqrtsd %xmm9, %xmm9
  fldpi
  vpcmpeqd %ymm3, %ymm3, %ymm3
  rdtsc
  mov %eax, 64(%rdi)
  wrfsbase %rdi
  movsd %xmm9, %fs:0
  fstpt 16(%rdi)
  vmovdqu %ymm3, 32(%rdi)
  cpuid
  mov %ebx, 72(%rdi)
  vzeroupper
  ud2)")

TEST_F(DirectTest, keeps_vector_state_over_ways_out) {
  const auto m = run_both(vectors);
  EXPECT_EQ(m->get64(kData + 32 + 24), ~u64{0});
  EXPECT_EQ(m->vcpu->state().gpr[x86::R15], 6U);
}

GUEST_CODE(touch, R"(
  mov $0x120ff8, %edi
1: addq $3, (%rdi)
  add $8, %rdi
  jmp 1b)")

TEST_F(DirectTest, page_faults_are_precise) {
  const auto m =
      run_both(touch, kUser, [](Machine& machine) { machine.put64(machine.page_entry(0x123000), 0); });
  EXPECT_EQ(m->vcpu->state().cr2, 0x123000U);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RDI], 0x123000U);
  EXPECT_EQ(m->get64(0x122ff8), 3U);
  EXPECT_EQ(m->vcpu->state().gpr[x86::R15], 14U);
}

TEST_F(DirectTest, read_only_pages_stay_so) {
  const auto m =
      run_both(touch, kUser, [](Machine& machine) { machine.put64(machine.page_entry(0x121000), 0x121005); });
  EXPECT_EQ(m->vcpu->state().cr2, 0x121000U);
}

TEST_F(DirectTest, pages_of_the_kernel_are_out_of_reach) {
  const auto m =
      run_both(touch, kUser, [](Machine& machine) { machine.put64(machine.page_entry(0x121000), 0x121003); });
  EXPECT_EQ(m->vcpu->state().cr2, 0x121000U);
}

// Two rounds: the second one calls changed code.
GUEST_CODE(changes_itself, R"(
  xor %ebx, %ebx
  mov $0x11000, %edi
  movl $0x90c3c0ff, (%rdi)
  call *%rdi
  movl $0x90c3c3ff, (%rdi)
  call *%rdi
  movl $0x90c3c3ff, 0x100(%rdi)
  add $0x100, %rdi
  call *%rdi
  int3)")

TEST_F(DirectTest, code_that_was_written_is_run_as_written) {
  const auto m = run_both(changes_itself);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RBX], 2U);
  EXPECT_EQ(m->vcpu->state().gpr[x86::R15], 3U);
}

GUEST_CODE(divides, R"(
  mov $5, %eax
  cltd
  xor %ecx, %ecx
  stc
  div %ecx)")
GUEST_CODE(interrupts, "int $0x80")
GUEST_CODE(two_byte_three, ".byte 0xcd, 3")
GUEST_CODE(halts, "hlt")
GUEST_CODE(steps, "pushf; orl $0x100, (%rsp); popf; inc %eax; inc %eax; inc %eax")

TEST_F(DirectTest, exceptions_are_the_guests) {
  EXPECT_EQ(run_both(divides)->vcpu->state().gpr[x86::R15], 0U);
  EXPECT_EQ(run_both(interrupts)->vcpu->state().gpr[x86::R15], 0x80U);
  EXPECT_EQ(run_both(two_byte_three)->vcpu->state().gpr[x86::R15], 3U);
  EXPECT_EQ(run_both(halts)->vcpu->state().gpr[x86::R15], 13U);
}

TEST_F(DirectTest, single_stepping_begins_where_it_should) {
  const auto m = run_both(steps, kUser);
  EXPECT_EQ(m->vcpu->state().gpr[x86::R15], 1U);
}

// RFLAGS.ID and NT are not what a debugger can set.
GUEST_CODE(odd_flags, R"(
  pushf
  orl $0x204000, (%rsp)
  popf
  rdtsc
  pushf
  pop %rbx
  and $0x204000, %ebx
  pushf
  andl $~0x204000, (%rsp)
  popf
  rdtsc
  pushf
  pop %rbp
  and $0x204000, %ebp
  xor %eax, %eax
  xor %edx, %edx
  syscall)")

TEST_F(DirectTest, flags_that_only_popf_changes) {
  const auto m = run_both(odd_flags);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RBX], 0x204000U);
  EXPECT_EQ(m->vcpu->state().gpr[x86::RBP], 0U);
}

GUEST_CODE(forever, "1: inc %rax; jmp 1b")

// The host takes such bases from programs (WRGSBASE), but not from ptrace.
GUEST_CODE(bases_of_the_upper_half, R"(
  mov $-0x10000, %rax
  wrgsbase %rax
  rdtsc
  mov $0x100000, %edi
  rdgsbase %rbx
  mov %rbx, (%rdi)
  mov $-8, %rax
  wrfsbase %rax
  rdtsc
  rdfsbase %rcx
  xor %eax, %eax
  xor %edx, %edx
  int3)")

TEST_F(DirectTest, segment_bases_of_the_upper_half) {
  const auto m = run_both(bases_of_the_upper_half);
  EXPECT_EQ(m->get64(kData), ~u64{0xffff});
  EXPECT_EQ(m->vcpu->state().segment[x86::FS].base, ~u64{7});
}

TEST_F(DirectTest, a_kick_ends_an_endless_loop) {
  Machine m(engine::DirectMode::Always);
  m.load(kUser, forever);
  m.vcpu->state_changed();
  std::thread kicker([&] {
    for (int i = 0; i < 20; i++) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      m.vcpu->kick();
    }
  });
  u64 last = 0;
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(m.vcpu->run().reason, engine::ExitReason::Kicked);
    EXPECT_GE(m.vcpu->state().gpr[x86::RAX], last);
    last = m.vcpu->state().gpr[x86::RAX];
  }
  kicker.join();
  EXPECT_GT(last, 0U);
  EXPECT_EQ(m.vcpu->state().rip & ~u64{3}, kUser);
}

// --- Direct by itself ---------------------------------------------------------------------------------

class Bystander final : public cpu::TranslationObserver, public PageClaims {
 public:
  void flush_all() override {}
  void flush_non_global() override {}
  void flush_page(GuestLinear) override {}
  void code_written(GuestPhysical, usize) override {}
  bool claim_write(u8* flags) override { return (*flags & memory::PageFlag::code) == 0; }
  bool claim_code(GuestPhysical, const u8*, u8* flags) override {
    const bool fresh = (*flags & memory::PageFlag::code) == 0;
    *flags |= memory::PageFlag::code;
    return fresh;
  }
};

struct Alone {
  Machine machine{engine::DirectMode::Off};
  Bystander bystander;
  Direct direct{machine.space,
                bystander,
                bystander,
                {.ram_file = machine.ram.file(), .vector_components = host_components(), .always = true}};
  std::atomic<u32> exit_request = 0;
  u32 inside = 0;

  Alone() {
    const Status started = direct.start();
    EXPECT_TRUE(started.ok()) << (started.ok() ? "" : started.error().message());
  }
  cpu::State& state() { return machine.vcpu->state(); }
  // Runs until something other than a trap to be interpreted, which it leaves to the caller, happens.
  Outcome run() { return direct.run(state(), exit_request, inside); }
  // Maps one more page at `linear`, anywhere in the address space.
  void map(u64 linear, u64 entry) {
    u64 table = kTables;
    for (unsigned level = 3; level > 0; level--) {
      const u64 at = table + (linear >> (12 + 9 * level) & 511) * 8;
      if ((machine.get64(at) & 1) == 0) {
        machine.put64(at, next_table | 7);
        next_table += kPageSize;
      }
      table = machine.get64(at) & ~u64{0xfff};
    }
    machine.put64(table + (linear >> 12 & 511) * 8, entry);
  }
  u64 next_table = 0x400000;
};

// Enough before it to see that it is an instruction.
GUEST_CODE(asks, R"(
  .rept 60
  mov %rbx, %rcx
  .endr
  xor %eax, %eax
  cpuid
  .rept 20
  mov %rbx, %rcx
  .endr
  syscall)")

TEST_F(DirectTest, cpuid_traps_and_what_is_around_it_runs) {
  Alone alone;
  alone.machine.load(kUser, asks);
  alone.machine.put64(alone.machine.page_entry(kUser), kUser | 5);  // not writable
  ASSERT_TRUE(alone.direct.wanted(alone.state()));
  ASSERT_EQ(alone.run(), Outcome::Interpret);
  EXPECT_EQ(alone.state().rip, kUser + 60 * 3 + 2);
  alone.state().rip += 2;
  EXPECT_EQ(alone.run(), Outcome::Interpret);
  EXPECT_EQ(alone.state().rip, kUser + asks.size() - 2);  // the system call
}

// What may be written may be read as data where it runs, so no byte of it is replaced.
TEST_F(DirectTest, writable_pages_run_as_they_are_or_not_at_all) {
  Alone alone;
  alone.machine.load(kUser, asks);
  alone.machine.put64(alone.machine.page_entry(kUser), kUser | 0x67);  // and was
  EXPECT_EQ(alone.run(), Outcome::Foreign);
}

GUEST_CODE(reads_itself, R"(
  mov 0x11000, %rax
  syscall)")

TEST_F(DirectTest, gives_way_to_guest_memory_in_its_place) {
  Alone alone;
  alone.machine.load(kUser, reads_itself);
  const u64 block = alone.direct.stub()->block();
  alone.map(block + kPageSize, 0x300000 | 7);
  EXPECT_EQ(alone.run(), Outcome::Declined);
  alone.map(block + kPageSize, 0);
  EXPECT_EQ(alone.run(), Outcome::Interpret);
}

TEST_F(DirectTest, a_killed_stub_is_noticed) {
  Alone alone;
  alone.machine.load(kUser, forever);
  ASSERT_EQ(kill(alone.direct.stub()->process(), SIGKILL), 0);
  EXPECT_EQ(alone.run(), Outcome::Failed);
  EXPECT_EQ(alone.run(), Outcome::Failed);
}

TEST_F(DirectTest, not_where_the_guest_would_see_more_than_it_was_told) {
  Alone alone;
  cpu::State& state = alone.state();
  EXPECT_TRUE(alone.direct.wanted(state));
  const auto declined = [&](auto change) {
    const auto before = std::make_unique<cpu::State>(state);
    change();
    const bool wanted = alone.direct.wanted(state);
    state = *before;
    return !wanted;
  };
  EXPECT_TRUE(declined([&] { state.rflags |= x86::Rflags::TF; }));
  EXPECT_TRUE(declined([&] { state.rflags |= x86::Rflags::AC; }));
  EXPECT_TRUE(declined([&] { state.dr7 |= 1; }));
  EXPECT_TRUE(declined([&] { state.cr0 |= x86::Cr0::TS; }));
  EXPECT_TRUE(declined([&] { state.cr4 |= x86::Cr4::TSD; }));
  EXPECT_TRUE(declined([&] { state.cr4 &= ~x86::Cr4::FSGSBASE; }));
  EXPECT_TRUE(declined([&] { state.xcr0 = 3; }));
  EXPECT_TRUE(declined([&] { state.segment[x86::SS].attributes = 0xc093; }));  // ring 0
  EXPECT_TRUE(declined([&] { state.segment[x86::CS].selector = 0x23; }));
  EXPECT_TRUE(declined([&] { state.pending.kind = cpu::Event::Kind::Nmi; }));
}

}  // namespace
}  // namespace nacre::direct
