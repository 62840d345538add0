// The kvm engine on this host's /dev/kvm, beside the interpreter: small programs, and the state both ways.
#include "engine/kvm/kvm.hpp"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>

#include "engine/conformance/machine.hpp"
#include "engine/conformance/same_end.hpp"
#include "engine/interp/interp_vcpu.hpp"
#include "engine/kvm/group.hpp"
#include "engine/kvm/vcpu.hpp"
#include "host/fd.hpp"
#include "host/signals.hpp"

namespace nacre::kvm {
namespace {

using conformance::kProgram;

class Kvm : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }
  void SetUp() override {
    const Fitness fitness = kvm::fitness();
    if (!fitness.usable) GTEST_SKIP() << fitness.why_not.message();
    processor_ = host_cpuid().take();
    stack_.emplace(host::SignalStack::enter().take());
  }

  // A machine whose processor is of `kind`, with the same model in both.
  std::unique_ptr<conformance::Machine> machine(bool kvm, cpu::Platform* platform = nullptr, bool apics = false) {
    const auto maker = [this, kvm,
                        apics](const engine::EngineContext& context) -> Result<std::unique_ptr<engine::Vcpu>> {
      if (!kvm) return engine::make_interp(context);
      group_ = TRY(make_group(context.memory, apics));
      engine::EngineContext with_group = context;
      with_group.group = group_.get();
      // Also where it emulates ring 0, which make() leaves to the interpreter: these programs it can do.
      return std::unique_ptr<engine::Vcpu>(TRY(KvmVcpu::create(with_group)));
    };
    return std::make_unique<conformance::Machine>(maker, platform, processor_.get());
  }

  // Runs on both, and compares general registers, flags and memory.
  std::unique_ptr<conformance::Machine> run_both(const std::vector<u8>& code) {
    auto interp = machine(false), kvm = machine(true);
    for (auto* m : {interp.get(), kvm.get()}) {
      m->load(kProgram, code);
      EXPECT_EQ(m->run(), engine::ExitReason::Halted);
    }
    conformance::expect_same_end(*interp, *kvm);
    return kvm;
  }

  std::unique_ptr<cpu::HostCpuid> processor_;
  std::unique_ptr<engine::Group> group_;
  std::optional<host::SignalStack> stack_;
};

GUEST_CODE(counts, R"(
  mov $0, %eax
  mov $100, %ecx
1: add %rcx, %rax
  mov %rax, 0x400000(,%rcx,8)
  dec %ecx
  jnz 1b
  hlt)")

TEST_F(Kvm, small_program) {
  const auto machine = run_both(counts);
  if (HasFailure()) return;
  EXPECT_EQ(machine->vcpu->state().gpr[x86::RAX], 5050u);
  EXPECT_EQ(machine->get64(0x400008), 5050u);
}

// KVM on a host without VMX or SVM has no emulation of it: the interpreter's turn.
GUEST_CODE(exchanges, R"(
  movq $7, 0x400000
  movq $9, 0x400008
  mov $7, %eax
  mov $9, %edx
  mov $1, %ebx
  mov $2, %ecx
  lock cmpxchg16b 0x400000
  hlt)")

TEST_F(Kvm, cmpxchg16b) {
  const auto machine = run_both(exchanges);
  if (HasFailure()) return;
  EXPECT_EQ(machine->get64(0x400000), 1u);
  EXPECT_EQ(machine->get64(0x400008), 2u);
}

GUEST_CODE(divides, "mov $1, %eax\n xor %edx, %edx\n xor %ecx, %ecx\n div %ecx\n hlt")

TEST_F(Kvm, exception_reaches_the_guests_handler) {
  const auto machine = run_both(divides);
  if (HasFailure()) return;
  EXPECT_EQ(machine->vcpu->state().gpr[x86::R15], 0u);
  EXPECT_GT(machine->vcpu->state().rip, 0x7000u);
}

// What is written is what is read, whether or not KVM ran in between.
TEST_F(Kvm, state_goes_in_and_comes_out) {
  auto m = machine(true);
  m->load(kProgram, {0xf4});
  cpu::State& s = m->vcpu->state();
  for (unsigned i = 0; i < 16; i++) s.gpr[i] = 0x1111111111111111u * (i + 1);
  s.gpr[x86::RSP] = conformance::kStackTop;
  s.lstar = 0xffffffff81000000, s.star = 0x0023001000000000, s.fmask = 0x47700,
  s.kernel_gs_base = 0xffff888000000000;
  s.sysenter_cs = 0x10, s.sysenter_eip = 0x81001000, s.sysenter_esp = 0x82000000;  // an AMD processor's have 32 bits
  s.segment[x86::FS].base = 0x7f0000001000, s.segment[x86::GS].base = 0xffff888000001000;
  s.cr2 = 0x123456789000;
  s.dr[0] = 0x10, s.dr[1] = 0x20, s.dr[2] = 0x30, s.dr[3] = 0x40;
  s.pat = 0x0007010600070106;
  s.rflags = 0x2 | x86::Rflags::IF | x86::Rflags::AC;
  for (unsigned i = 0; i < 256; i++) s.xsave[160 + i] = static_cast<u8>(i);  // XMM0 to XMM15
  s.xsave[512] = 3;
  const cpu::State before = s;
  ASSERT_EQ(m->run(), engine::ExitReason::Halted);
  const cpu::State& after = m->vcpu->state();
  for (unsigned i = 0; i < 16; i++) EXPECT_EQ(after.gpr[i], before.gpr[i]) << "register " << i;
  EXPECT_EQ(after.rip, before.rip + 1);
  EXPECT_EQ(after.rflags, before.rflags);
  EXPECT_EQ(after.lstar, before.lstar);
  EXPECT_EQ(after.star, before.star);
  EXPECT_EQ(after.fmask, before.fmask);
  EXPECT_EQ(after.kernel_gs_base, before.kernel_gs_base);
  EXPECT_EQ(after.sysenter_eip, before.sysenter_eip);
  EXPECT_EQ(after.sysenter_esp, before.sysenter_esp);
  EXPECT_EQ(after.segment[x86::FS].base, before.segment[x86::FS].base);
  EXPECT_EQ(after.segment[x86::GS].base, before.segment[x86::GS].base);
  EXPECT_EQ(after.segment[x86::CS].attributes, before.segment[x86::CS].attributes);
  EXPECT_EQ(after.cr2, before.cr2);
  EXPECT_EQ(after.cr3, before.cr3);
  EXPECT_EQ(after.pat, before.pat);
  for (unsigned i = 0; i < 4; i++) EXPECT_EQ(after.dr[i], before.dr[i]);
  EXPECT_EQ(std::memcmp(after.xsave + 160, before.xsave + 160, 256), 0);
  EXPECT_EQ(after.activity, cpu::Activity::Halted);
}

// A device that has the processor leave at the first of what it is told.
class KickingDevice final : public conformance::QuietPlatform {
 public:
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override { note(address.value(), size, value); }
  void port_write(u16 port, unsigned size, u32 value) override { note(port, size, value); }
  void note(u64 at, unsigned size, u64 value) {
    if (bytes == 0) vcpu->kick();
    first = bytes == 0 ? at : first;
    for (unsigned i = 0; i < size; i++) sum += value >> (8 * i) & 0xff;
    bytes += size;
  }
  engine::Vcpu* vcpu = nullptr;
  u64 first = 0, bytes = 0, sum = 0;
};

GUEST_CODE(stores_widely, "movups 0x400000, %xmm0\n movups %xmm0, 0x500000(%rbx)\n hlt")
GUEST_CODE(outputs_many, "mov $0x400000, %esi\n mov $16, %ecx\n mov $0x80, %edx\n cld\n rep outsb\n hlt")

// The state is asked for between two pieces of one instruction: none is lost, and none comes twice.
TEST_F(Kvm, state_is_asked_for_amid_an_access_in_pieces) {
  for (const auto* code : {&stores_widely, &outputs_many}) {
    KickingDevice device;
    auto m = machine(true, &device);
    device.vcpu = m->vcpu.get();
    m->load(kProgram, *code);
    for (unsigned i = 0; i < 16; i++) m->base[0x400000 + i] = static_cast<u8>(i + 1);
    m->put64(0x200000 + 8 * 0x700, u64{0xd0000000} | 3);  // 0x700000: a device's page
    m->vcpu->state().gpr[x86::RBX] = 0x200000;
    m->vcpu->state_changed();
    ASSERT_EQ(m->vcpu->run().reason, engine::ExitReason::Kicked);
    static_cast<void>(m->vcpu->state());
    m->vcpu->state_changed();
    EXPECT_EQ(m->run(), engine::ExitReason::Halted);
    EXPECT_EQ(device.first, code == &stores_widely ? 0xd0000000u : 0x80u);
    EXPECT_EQ(device.bytes, 16u);
    EXPECT_EQ(device.sum, 16u * 17 / 2);
  }
}

GUEST_CODE(rings, "movw $1, 0x500008(%rbx)\n movl $2, 0x500008(%rbx)\n movw $3, 0x50000c(%rbx)\n hlt")

// A doorbell's writes, of whatever width, make its descriptor readable and come to nobody else; those beside it do.
TEST_F(Kvm, diverted_writes_reach_their_descriptor) {
  KickingDevice device;
  device.bytes = 1;  // it is not to kick
  auto m = machine(true, &device);
  const host::UniqueFd event(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const GuestPhysical bell(0xd0000008);
  if (!group_->divert_writes(bell, event.number())) GTEST_SKIP() << "This KVM has no ioeventfds of any width.";
  const auto ring_three_times = [&] {
    m->load(kProgram, rings);
    m->put64(0x200000 + 8 * 0x700, u64{0xd0000000} | 3);
    cpu::State& s = m->vcpu->state();
    s.gpr[x86::RBX] = 0x200000;
    s.rip = kProgram;
    s.activity = cpu::Activity::Running;
    device.sum = 0;
    EXPECT_EQ(m->run(), engine::ExitReason::Halted);
  };
  ring_three_times();
  u64 count = 0;
  EXPECT_EQ(read(event.number(), &count, sizeof count), static_cast<ssize_t>(sizeof count));
  EXPECT_EQ(count, 2u);
  EXPECT_EQ(device.sum, 3u);
  group_->give_back_writes(bell, event.number());
  ring_three_times();
  EXPECT_LT(read(event.number(), &count, sizeof count), 0);
  EXPECT_EQ(device.sum, 6u);
}

// (What is read first may count as written: KVM makes it writable at once.)
GUEST_CODE(writes_two_pages, "movl $1, 0x400010\n movl $2, 0x403ff0\n hlt")

TEST_F(Kvm, written_pages_are_logged_once) {
  auto m = machine(true);
  auto& group = static_cast<VmGroup&>(*group_);
  ASSERT_TRUE(group.dirty_log().log_writes(true).ok());
  m->load(kProgram, writes_two_pages);
  ASSERT_EQ(m->run(), engine::ExitReason::Halted);
  const auto is_dirty = [&](u64 address) {
    u8* flags = m->space.page_flags(GuestPhysical(address));
    const bool dirty = (*flags & memory::PageFlag::dirty) != 0;
    *flags = 0;
    return dirty;
  };
  ASSERT_TRUE(group.dirty_log().collect().ok());
  EXPECT_TRUE(is_dirty(0x400000));
  EXPECT_TRUE(is_dirty(0x403000));
  EXPECT_FALSE(is_dirty(0x401000));
  ASSERT_TRUE(group.dirty_log().collect().ok());
  EXPECT_FALSE(is_dirty(0x400000));
}

GUEST_CODE(writes_many_pages, R"(
  mov $0x300000, %rbx
1: movl $1, (%rbx)
  add $0x1000, %rbx
  cmp $0x1000000, %rbx
  jb 1b
  hlt)")

// More pages than a ring has entries: the processor comes out for them, and none is lost. And by bitmap, where there are both.
TEST_F(Kvm, no_written_page_is_lost) {
  for (const bool bitmap : {false, true}) {
    SCOPED_TRACE(bitmap);
    if (bitmap) setenv("NACRE_KVM_DIRTY", "bitmap", 1);
    auto m = machine(true);
    unsetenv("NACRE_KVM_DIRTY");
    DirtyLog& log = static_cast<VmGroup&>(*group_).dirty_log();
    if (bitmap) { EXPECT_FALSE(log.has_rings()); }
    ASSERT_TRUE(log.log_writes(true).ok());
    m->load(kProgram, writes_many_pages);
    ASSERT_EQ(m->run(), engine::ExitReason::Halted);
    ASSERT_TRUE(log.collect().ok());
    unsigned lost = 0;
    for (u64 page = 0x300000; page < conformance::kRamBytes; page += kPageSize)
      lost += (*m->space.page_flags(GuestPhysical(page)) & memory::PageFlag::dirty) == 0;
    EXPECT_EQ(lost, 0u);
  }
}

GUEST_CODE(counts_a_little, "inc %eax\n inc %eax\n inc %eax\n inc %eax\n inc %eax\n hlt")  // two bytes each

TEST_F(Kvm, stops_before_an_address) {
  auto m = machine(true);
  m->load(kProgram, counts_a_little);
  auto& vcpu = static_cast<KvmVcpu&>(*m->vcpu);
  KvmVcpu::Stops stops;
  stops.before[1] = kProgram + 4;
  vcpu.state_changed();
  ASSERT_TRUE(vcpu.stop_at(stops).ok());
  EXPECT_EQ(vcpu.run().reason, engine::ExitReason::Kicked);
  EXPECT_EQ(vcpu.take_stop(), kProgram + 4);
  EXPECT_EQ(vcpu.take_stop(), std::nullopt);
  EXPECT_EQ(vcpu.state().gpr[x86::RAX], 2u);
  ASSERT_TRUE(vcpu.stop_at({}).ok());
  EXPECT_EQ(m->run(), engine::ExitReason::Halted);
}

// (Once through first: Bochs 2.7 traps too early at an instruction that is met for the first time, by whose page KVM has the
// processor leave.)
TEST_F(Kvm, steps_for_a_debugger) {
  auto m = machine(true);
  m->load(kProgram, counts_a_little);
  auto& vcpu = static_cast<KvmVcpu&>(*m->vcpu);
  ASSERT_EQ(m->run(), engine::ExitReason::Halted);
  vcpu.state().gpr[x86::RAX] = 0;
  vcpu.state().rip = kProgram;
  vcpu.state().activity = cpu::Activity::Running;
  KvmVcpu::Stops stops;
  stops.each_instruction = true;
  vcpu.state_changed();
  ASSERT_TRUE(vcpu.stop_at(stops).ok());
  for (u64 i = 1; i <= 4; ++i) {
    EXPECT_EQ(vcpu.run().reason, engine::ExitReason::Kicked);
    EXPECT_EQ(vcpu.take_stop(), kProgram + 2 * i);
    EXPECT_EQ(vcpu.state().gpr[x86::RAX], i);
    EXPECT_EQ(vcpu.state().rflags & x86::Rflags::TF, 0u);
  }
  ASSERT_TRUE(vcpu.stop_at({}).ok());
  EXPECT_EQ(m->run(), engine::ExitReason::Halted);
  EXPECT_EQ(vcpu.take_stop(), std::nullopt);
  EXPECT_EQ(vcpu.state().gpr[x86::RAX], 5u);
}

GUEST_CODE(spins, "1: inc %rax\n jmp 1b")

// Kicks a guest that spins with these flags, before it runs and while it does.
void kick_often(conformance::Machine& m, u64 flags) {
  m.load(kProgram, spins);
  m.vcpu->state().rflags = flags;
  m.vcpu->state_changed();
  m.vcpu->kick();
  EXPECT_EQ(m.vcpu->run().reason, engine::ExitReason::Kicked);
  EXPECT_EQ(m.vcpu->state().gpr[x86::RAX], 0u);
  std::atomic<bool> over = false;
  std::thread kicker([&] {
    while (!over) {
      m.vcpu->kick();
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < 50; i++) EXPECT_EQ(m.vcpu->run().reason, engine::ExitReason::Kicked);
  over = true;
  kicker.join();
  const u64 rip = m.vcpu->state().rip;
  EXPECT_TRUE(rip >= kProgram && rip < kProgram + spins.size());
}

TEST_F(Kvm, kick_before_and_while_it_runs) { kick_often(*machine(true), 2 | x86::Rflags::IF); }
TEST_F(Kvm, kick_while_interrupts_are_masked) { kick_often(*machine(true), 2); }

// An 8259 with one interrupt, and a port by which the guest asks for it. Whoever acknowledges it has the processor leave
// before guest code runs on.
class OneInterrupt final : public conformance::QuietPlatform {
 public:
  static constexpr u8 kVector = 30;
  void port_write(u16, unsigned, u32) override {
    waiting = true;
    vcpu->kick();
  }
  bool interrupt_pending() override { return waiting; }
  int acknowledge_interrupt() override {
    vcpu->kick();
    waiting = false;
    return kVector;
  }
  engine::Vcpu* vcpu = nullptr;
  bool waiting = false;
};

// A local APIC that is on, with every local entry masked.
irq::LocalApic::Loan enabled_apic() {
  irq::LocalApic::Loan loan;
  loan.state.base = 0xfee00900;
  loan.state.spurious = 0x1ff;
  for (u32& entry : loan.state.lvt) entry = 0x10000;
  return loan;
}

GUEST_CODE(asks_and_spins, "mov $0x80, %edx\n out %al, %dx\n 1: jmp 1b")
GUEST_CODE(asks_and_halts, "mov $0x80, %edx\n out %al, %dx\n hlt")

// What KVM has been given and the guest has had no chance to take is part of the state: it is there, and another engine
// delivers it.
void an_interrupt_that_was_only_given_is_state(engine::Vcpu& vcpu, OneInterrupt& device, conformance::Machine& other) {
  for (int runs = 0; runs < 10 && vcpu.state().pending.kind == cpu::Event::Kind::None; ++runs)
    ASSERT_NE(vcpu.run().reason, engine::ExitReason::Failed);
  EXPECT_FALSE(device.waiting);
  const cpu::State& state = vcpu.state();
  ASSERT_EQ(state.pending.kind, cpu::Event::Kind::ExternalInterrupt);
  EXPECT_EQ(state.pending.vector, OneInterrupt::kVector);
  EXPECT_EQ(state.activity, cpu::Activity::Running);
  other.vcpu->state() = state;
  EXPECT_EQ(other.run(), engine::ExitReason::Halted);
  EXPECT_EQ(other.vcpu->state().gpr[x86::R15], OneInterrupt::kVector);
}

TEST_F(Kvm, interrupt_that_was_only_given_is_state) {
  for (const bool apics : {false, true}) {
    if (apics && !has_local_apics()) continue;
    for (const auto* code : {&asks_and_spins, &asks_and_halts}) {
      SCOPED_TRACE(apics);
      OneInterrupt device;
      auto kvm = machine(true, &device, apics), interp = machine(false);
      device.vcpu = kvm->vcpu.get();
      kvm->load(kProgram, *code);
      interp->load(kProgram, *code);
      kvm->vcpu->state().rflags |= x86::Rflags::IF;
      kvm->vcpu->state_changed();
      if (apics) {
        irq::LocalApic::Loan loan = enabled_apic();
        loan.state.lvt[3] = 0x700;  // LINT0 is the 8259's wire
        ASSERT_TRUE(kvm->vcpu->take_apic(loan).ok());
      }
      an_interrupt_that_was_only_given_is_state(*kvm->vcpu, device, *interp);
      // And here too the guest takes it. (With an APIC of its own it sleeps in run().)
      std::atomic<bool> over = false;
      std::thread kicker([&] {
        for (; !over; std::this_thread::sleep_for(std::chrono::milliseconds(1))) kvm->vcpu->kick();
      });
      const auto taken = [&] { return kvm->vcpu->state().gpr[x86::R15] == OneInterrupt::kVector; };
      for (int runs = 0; runs < 10'000 && !taken(); ++runs) static_cast<void>(kvm->vcpu->run());
      over = true;
      kicker.join();
      EXPECT_TRUE(taken());
    }
  }
}

// A timer that runs out while the processor is outside is among what its local APIC requests when that is given back; one
// that still counts, or whose entry is masked, is not. And the processor goes on where it was.
TEST_F(Kvm, timer_that_ran_out_outside_comes_back_with_the_apic) {
  if (!has_local_apics()) GTEST_SKIP() << "Where KVM emulates, the local APIC is the board's.";
  constexpr u8 kVector = 30;
  constexpr u32 kMasked = 0x10000, kPeriodic = 0x20000, kSoon = 3'000'000, kLater = 4'000'000'000;  // nanoseconds
  struct Case {
    u32 entry, count;
    bool requested;
  };
  for (const Case& timer : {Case{kVector, kSoon, true}, Case{kVector | kPeriodic, kSoon, true}, Case{kVector, kLater, false},
                            Case{kVector | kPeriodic, kLater, false}, Case{kVector | kMasked, kSoon, false}}) {
    SCOPED_TRACE(testing::Message() << "entry " << timer.entry << ", count " << timer.count);
    auto m = machine(true, nullptr, true);
    m->load(kProgram, spins);
    m->vcpu->state().rflags |= x86::Rflags::IF;
    irq::LocalApic::Loan loan = enabled_apic();
    loan.state.lvt[0] = timer.entry;
    loan.state.divide = 0xb;  // by 1
    loan.state.initial_count = loan.current_count = timer.count;
    m->vcpu->state_changed();
    ASSERT_TRUE(m->vcpu->take_apic(loan).ok());
    m->vcpu->kick();
    ASSERT_EQ(m->vcpu->run().reason, engine::ExitReason::Kicked);
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    auto back = m->vcpu->return_apic();
    ASSERT_TRUE(back.ok());
    EXPECT_EQ((back.value().state.irr[0] >> kVector & 1) != 0, timer.requested);
    EXPECT_EQ(back.value().state.initial_count, timer.count);
    EXPECT_EQ(back.value().state.lvt[0], timer.entry);
    if (timer.count == kLater) {
      EXPECT_GT(back.value().current_count, 0u);
      EXPECT_LT(back.value().current_count, timer.count);
    }
    EXPECT_EQ(m->vcpu->state().rip, kProgram);
    // What was requested is taken when it goes on; the handler sleeps in KVM, until it is kicked.
    ASSERT_TRUE(m->vcpu->take_apic(back.value()).ok());
    std::atomic<bool> over = false;
    std::thread kicker([&] {
      for (; !over; std::this_thread::sleep_for(std::chrono::milliseconds(1))) m->vcpu->kick();
    });
    const auto taken = [&] { return m->vcpu->state().gpr[x86::R15] == kVector; };
    for (int runs = 0; runs < (timer.requested ? 10'000 : 5) && !taken(); ++runs) static_cast<void>(m->vcpu->run());
    over = true;
    kicker.join();
    EXPECT_EQ(taken(), timer.requested);
  }
}

}  // namespace
}  // namespace nacre::kvm
