// The local APIC that KVM has for a processor: irq::LocalApic's contents to it and back.
#include <pthread.h>
#include <signal.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "engine/kvm/vcpu.hpp"
#include "host/error.hpp"
#include "irq/local_apic/registers.hpp"

namespace nacre::kvm {

using irq::ApicBase;
using irq::ApicRegister;
using irq::LocalApic;
using irq::Lvt;
using irq::TimerMode;
using x86::Msr;
using x86::Rflags;

namespace {

constexpr usize place_of(ApicRegister r, usize further = 0) {
  return 16 * (static_cast<usize>(r) + further);
}
void put(kvm_lapic_state& page, ApicRegister r, u32 value, usize further = 0) {
  std::memcpy(page.regs + place_of(r, further), &value, sizeof value);
}
u32 get(const kvm_lapic_state& page, ApicRegister r, usize further = 0) {
  u32 value = 0;
  std::memcpy(&value, page.regs + place_of(r, further), sizeof value);
  return value;
}

bool is_x2apic(const LocalApic::State& state) {
  return ApicBase(state.base)[ApicBase::EXTD];
}
constexpr u32 kLvtTimerMode = 3 << 17, kTscDeadlineMode = 2 << 17;

// In x2APIC mode KVM has the page as if the id were 8 bits wide, and finds the logical destination by itself.
kvm_lapic_state page_of(const LocalApic::Loan& loan) {
  const LocalApic::State& s = loan.state;
  kvm_lapic_state page = {};
  put(page, ApicRegister::Id, is_x2apic(s) ? s.id << 24 : s.xapic_id);
  put(page, ApicRegister::Version, LocalApic::kVersion);
  put(page, ApicRegister::TaskPriority, s.task_priority);
  put(page, ApicRegister::LogicalDestination, s.logical_destination);
  put(page, ApicRegister::DestinationFormat, s.destination_format);
  put(page, ApicRegister::Spurious, s.spurious);
  for (usize i = 0; i < 8; ++i) {
    put(page, ApicRegister::InService, s.isr[i], i);
    put(page, ApicRegister::TriggerMode, s.tmr[i], i);
    put(page, ApicRegister::Request, s.irr[i], i);
  }
  put(page, ApicRegister::ErrorStatus, s.error_status);
  put(page, ApicRegister::CommandLow, static_cast<u32>(s.command));
  put(page, ApicRegister::CommandHigh, static_cast<u32>(s.command >> 32));
  for (usize i = 0; i < 6; ++i) put(page, ApicRegister::LvtTimer, s.lvt[i], i);
  put(page, ApicRegister::InitialCount, s.initial_count);
  put(page, ApicRegister::CurrentCount, loan.current_count);
  put(page, ApicRegister::DivideConfiguration, s.divide);
  return page;
}

LocalApic::Loan loan_of(const kvm_lapic_state& page, u64 base) {
  LocalApic::Loan loan;
  LocalApic::State& s = loan.state;
  s.base = base;
  const u32 id = get(page, ApicRegister::Id);
  s.xapic_id = id;
  s.task_priority = get(page, ApicRegister::TaskPriority);
  if (!is_x2apic(s)) s.logical_destination = get(page, ApicRegister::LogicalDestination);
  s.destination_format = get(page, ApicRegister::DestinationFormat);
  s.spurious = get(page, ApicRegister::Spurious);
  for (usize i = 0; i < 8; ++i) {
    s.isr[i] = get(page, ApicRegister::InService, i);
    s.tmr[i] = get(page, ApicRegister::TriggerMode, i);
    s.irr[i] = get(page, ApicRegister::Request, i);
  }
  s.error_status = get(page, ApicRegister::ErrorStatus);
  s.command = get(page, ApicRegister::CommandLow) | u64{get(page, ApicRegister::CommandHigh)} << 32;
  for (usize i = 0; i < 6; ++i) s.lvt[i] = get(page, ApicRegister::LvtTimer, i);
  s.initial_count = get(page, ApicRegister::InitialCount);
  s.divide = get(page, ApicRegister::DivideConfiguration);
  if ((s.lvt[0] & kLvtTimerMode) != kTscDeadlineMode) loan.current_count = get(page, ApicRegister::CurrentCount);
  return loan;
}

}  // namespace

Status KvmVcpu::take_apic(const LocalApic::Loan& loan) {
  if (group_.local_apics() == nullptr) return Vcpu::take_apic(loan);
  read_all();
  state_.apic_base = loan.state.base;
  loan_ = loan;
  cr8_ = static_cast<u8>(loan.state.task_priority >> 4 & 0xf);
  // Now, under the board's lock, and so without the Platform: what is sent to it from here on is not to be overwritten.
  write_all();
  return failure_ ? Status(*failure_) : Status();
}

Result<LocalApic::Loan> KvmVcpu::return_apic() {
  if (group_.local_apics() == nullptr) return Vcpu::return_apic();
  if (loan_) return *std::exchange(loan_, std::nullopt);  // it never got there
  read_all();
  const kvm_lapic_state page = TRY(read_apic());
  LocalApic::Loan loan = loan_of(page, state_.apic_base);
  loan.state.id = context_.number;
  if (is_x2apic(loan.state)) loan.state.xapic_id = context_.number << 24;
  loan.state.tsc_deadline = read_msr_of_kvm(static_cast<u32>(Msr::IA32_TSC_DEADLINE));
  loan.state.pv_eoi_msr = read_msr_of_kvm(irq::kMsrPvEoi);
  return loan;
}

namespace {

// Whether the interrupt of a timer that counts can be neither in the count nor among those requested, but with KVM.
// `before` was read before KVM last put there what it had.
bool may_lack_timer(const kvm_lapic_state& page, u32 before) {
  const Lvt timer(get(page, ApicRegister::LvtTimer));
  const TimerMode mode = timer[Lvt::timer_mode];
  if (timer[Lvt::masked] || get(page, ApicRegister::InitialCount) == 0) return false;
  const u8 vector = timer[Lvt::vector];
  const bool requested = (get(page, ApicRegister::Request, vector / 32) >> vector % 32 & 1) != 0;
  const u32 count = get(page, ApicRegister::CurrentCount);
  if (mode == TimerMode::OneShot) return count == 0 && !requested;
  // A count of 0: it has run out, and KVM has not come to it.
  return mode == TimerMode::Periodic && !requested && (count == 0 || count > before);
}

}  // namespace

// KVM's timer runs out at any moment, and only where KVM runs the processor does it become an interrupt of the local APIC.
Result<kvm_lapic_state> KvmVcpu::read_apic() {
  kvm_lapic_state page = {};
  const auto read = [&] { return request(file_.number(), KVM_GET_LAPIC, &page); };
  if (read() != 0) return host::errno_error("Cannot read the local APIC from KVM");
  // One-shot and run out long ago, it looks as if it had just run out: then the tries are in vain, a tenth of a millisecond.
  constexpr int kTries = 5;
  u32 before = 0;
  for (int tries = 0; tries < kTries && may_lack_timer(page, before); ++tries) {
    if (tries > 1) std::this_thread::sleep_for(std::chrono::microseconds(20));  // for the host's timer interrupt
    before = get(page, ApicRegister::CurrentCount);
    settle_timer();
    if (read() != 0) return host::errno_error("Cannot read the local APIC from KVM");
  }
  return page;
}

// KVM looks at its timers where a processor comes back from the guest or sleeps; at those that VT-x counts, only there. So this
// one, of which state_ has everything, sleeps with interrupts masked; a signal that waits already wakes it at once.
void KvmVcpu::settle_timer() {
  read_all();
  changed_ = true;
  kvm_regs deaf = {};
  deaf.rflags = Rflags::fixed;
  must(request(file_.number(), KVM_SET_REGS, &deaf), "KVM does not take general registers");
  kvm_vcpu_events none = {};
  none.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  must(request(file_.number(), KVM_SET_VCPU_EVENTS, &none), "KVM does not take pending events");
  kvm_mp_state asleep = {KVM_MP_STATE_HALTED};
  must(request(file_.number(), KVM_SET_MP_STATE, &asleep), "KVM does not take a processor's activity");

  sigset_t kick, outside, inside;
  sigemptyset(&kick);
  sigaddset(&kick, host::SignalDispatcher::kick_signal());
  pthread_sigmask(SIG_BLOCK, &kick, &outside);
  inside = outside;
  sigdelset(&inside, host::SignalDispatcher::kick_signal());
  // The kernel's signal set is 8 bytes, whose length stands before them.
  struct {
    u32 length = 8;
    u8 set[8];
  } mask;
  std::memcpy(mask.set, &inside, sizeof mask.set);
  must(request(file_.number(), host::kKvmSetSignalMask, &mask), "KVM does not take a signal mask");
  // Without that signal it would sleep on.
  if (host::KickableThread::current().kick()) {
    const u8 asked = __atomic_exchange_n(&run_.immediate_exit, u8{0}, __ATOMIC_SEQ_CST);
    run_.request_interrupt_window = 0;
    if (ioctl(file_.number(), KVM_RUN, 0) < 0 && errno != EINTR) must(-1, "KVM cannot run the processor");
    if (asked != 0) __atomic_store_n(&run_.immediate_exit, asked, __ATOMIC_SEQ_CST);
  }
  must(request(file_.number(), host::kKvmSetSignalMask, nullptr), "KVM does not take a signal mask");
  pthread_sigmask(SIG_SETMASK, &outside, nullptr);
}

// After IA32_APIC_BASE and the time stamp counter.
void KvmVcpu::write_apic() {
  if (!loan_) return;
  kvm_lapic_state page = page_of(*loan_);
  must(request(file_.number(), KVM_SET_LAPIC, &page), "KVM does not take the local APIC");
  write_msr_of_kvm(irq::kMsrPvEoi, loan_->state.pv_eoi_msr);
  // Nothing to say where it is 0, and a KVM without that timer mode has no such MSR.
  if (loan_->state.tsc_deadline != 0)
    write_msr_of_kvm(static_cast<u32>(Msr::IA32_TSC_DEADLINE), loan_->state.tsc_deadline);
  loan_.reset();
}

void KvmVcpu::read_activity() {
  kvm_mp_state is = {};
  must(request(file_.number(), KVM_GET_MP_STATE, &is), "Cannot read a processor's activity from KVM");
  switch (is.mp_state) {
    case KVM_MP_STATE_HALTED:
      state_.activity = cpu::Activity::Halted;
      break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED:
      state_.activity = cpu::Activity::WaitForSipi;
      break;
    default:
      state_.activity = cpu::Activity::Running;
  }
}

void KvmVcpu::write_activity() {
  kvm_mp_state is = {};
  switch (state_.activity) {
    case cpu::Activity::Halted:
      is.mp_state = KVM_MP_STATE_HALTED;
      break;
    case cpu::Activity::WaitForSipi:
      is.mp_state = KVM_MP_STATE_INIT_RECEIVED;
      break;
    default:
      is.mp_state = KVM_MP_STATE_RUNNABLE;
  }
  must(request(file_.number(), KVM_SET_MP_STATE, &is), "KVM does not take a processor's activity");
}

}  // namespace nacre::kvm
