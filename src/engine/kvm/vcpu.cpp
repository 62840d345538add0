// The loop and the exits.
#include "engine/kvm/vcpu.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cpu/model.hpp"
#include "engine/kvm/kvm.hpp"
#include "engine/kvm/user_vcpu.hpp"
#include "host/error.hpp"

namespace nacre::kvm {

using cpu::Activity;
using engine::Exit;
using engine::ExitReason;
using x86::Msr;
using x86::Rflags;

Result<std::unique_ptr<KvmVcpu>> KvmVcpu::create(const engine::EngineContext& context) {
  auto* group = static_cast<VmGroup*>(context.group);
  if (group == nullptr) return Error{"The kvm engine was asked for a processor without a machine."};
  host::UniqueFd file(request(group->file(), KVM_CREATE_VCPU, static_cast<unsigned long>(context.number)));
  if (!file) return host::errno_error("KVM cannot make a processor");
  auto run =
      TRY(host::Mapping::shared_file(file.number(), group->system().run_bytes(), PROT_READ | PROT_WRITE));
  TRY(group->dirty_log().add_processor(file.number()));
  auto vector = TRY(engine::HostedVectorUnit::create());
  std::unique_ptr<KvmVcpu> vcpu(
      new KvmVcpu(context, *group, std::move(file), std::move(run), std::move(vector)));
  if (auto status = vcpu->set_up(); !status) return status.error();
  return vcpu;
}

KvmVcpu::KvmVcpu(const engine::EngineContext& context, VmGroup& group, host::UniqueFd file, host::Mapping run,
                 std::unique_ptr<engine::HostedVectorUnit> vector)
    : context_(context),
      group_(group),
      file_(std::move(file)),
      run_memory_(std::move(run)),
      run_(*reinterpret_cast<kvm_run*>(run_memory_.data())),
      vector_(std::move(vector)),
      interpreter_(context.memory, context.platform, context.model, vector_->unit(), nullptr),
      record_(Record::create(context.number)) {
  cpu::reset(state_, false);
}

Status KvmVcpu::set_up() {
  if (auto status = set_cpuid(); !status) return status;
  find_msrs();
  kvm_device_attr attribute = {};
  attribute.group = KVM_VCPU_TSC_CTRL;
  attribute.attr = KVM_VCPU_TSC_OFFSET;
  tsc_offset_attribute_ = request(file_.number(), KVM_HAS_DEVICE_ATTR, &attribute) == 0;
  return {};
}

Status KvmVcpu::set_cpuid() {
  const auto list = std::make_unique<CpuidList>();
  const cpu::Model& model = context_.model;
  const auto add = [&](u32 leaf, u32 subleaf, bool indexed) {
    if (list->count == CpuidList::kMost) return;
    const cpu::CpuidLeaf value = model.cpuid(leaf, subleaf, state_);
    kvm_cpuid_entry2& entry = list->entries[list->count++];
    entry.function = leaf;
    entry.index = subleaf;
    entry.flags = indexed ? u32{KVM_CPUID_FLAG_SIGNIFCANT_INDEX} : 0;
    entry.eax = value.eax, entry.ebx = value.ebx, entry.ecx = value.ecx, entry.edx = value.edx;
  };
  // Leaves that look at ECX, and how many subleaves there can be. SDM vol. 2, CPUID.
  const auto subleaves = [](u32 leaf) -> u32 {
    switch (leaf) {
      case 4:
      case 0x8000001d:
        return 6;
      case 7:
      case 0x12:
      case 0x14:
        return 2;
      case 0xb:
      case 0x1f:
        return 3;
      case 0xd:
        return 20;
      default:
        return 0;
    }
  };
  for (const u32 base : {0u, 0x40000000u, 0x80000000u}) {
    const u32 last = model.cpuid(base, 0, state_).eax;
    for (u32 leaf = base; leaf <= last && leaf - base < 0x40; ++leaf) {
      const u32 count = subleaves(leaf);
      if (count == 0) add(leaf, 0, false);
      for (u32 i = 0; i < count; ++i) add(leaf, i, true);
    }
  }
  if (request(file_.number(), host::kKvmSetCpuid2, list.get()) != 0)
    return host::errno_error("KVM does not take the CPU model");
  return {};
}

// --- interrupts and kicks ---------------------------------------------------------------------------------

void KvmVcpu::kick() {
  // One that has not been heeded yet does. Signals are queued: sent faster than their handler runs they would keep the
  // thread in it for ever.
  if (kicked_.exchange(true)) return;
  __atomic_store_n(&run_.immediate_exit, u8{1}, __ATOMIC_SEQ_CST);
  if (thread_known_.load(std::memory_order_acquire) && gettid() != thread_->id()) thread_->kick();
}

// A signal that came just before KVM_RUN would else be missed.
bool KvmVcpu::handle(int signal, siginfo_t*, ucontext_t*) {
  if (signal != host::SignalDispatcher::kick_signal()) return false;
  __atomic_store_n(&run_.immediate_exit, u8{1}, __ATOMIC_SEQ_CST);
  return true;
}

// True when there is nothing to run for.
bool KvmVcpu::asleep() {
  if (state_.activity == Activity::Running) return false;
  if (state_.activity != Activity::Halted) return true;
  // After HLT, nothing but these can have changed.
  const bool wanted = state_.nmi_pending != 0 || (open_ && context_.platform.interrupt_pending());
  if (wanted) state_.activity = Activity::Running;
  return !wanted;
}

// Where KVM has the local APIC, what is offered are the 8259's.
void KvmVcpu::offer_interrupt() {
  run_.request_interrupt_window = 0;
  if (!has_apic()) run_.cr8 = context_.platform.task_priority();
  if (!context_.platform.interrupt_pending()) return;
  if (open_) {
    const int vector = context_.platform.acknowledge_interrupt();
    if (vector < 0) return;
    give_interrupt(static_cast<u8>(vector));
    open_ = false;
  }
  run_.request_interrupt_window = context_.platform.interrupt_pending() ? 1 : 0;
}

// Until the guest has taken it, it is among the pending events of state().
void KvmVcpu::give_interrupt(u8 vector) {
  if (!has_apic()) {
    kvm_interrupt interrupt = {vector};
    must(request(file_.number(), KVM_INTERRUPT, &interrupt), "KVM does not take an interrupt");
    return;
  }
  // Beside KVM's own local APIC, KVM_INTERRUPT puts it where nobody can read it back. What is put among the events ends no
  // sleep: the guest is awake from here on.
  kvm_vcpu_events events = {};
  must(request(file_.number(), KVM_GET_VCPU_EVENTS, &events), "Cannot read events from KVM");
  events.flags = 0;
  events.interrupt.injected = 1;
  events.interrupt.nr = vector;
  events.interrupt.soft = 0;
  must(request(file_.number(), KVM_SET_VCPU_EVENTS, &events), "KVM does not take an interrupt");
  kvm_mp_state awake = {KVM_MP_STATE_RUNNABLE};
  must(request(file_.number(), KVM_SET_MP_STATE, &awake), "KVM does not take a processor's activity");
  state_.activity = Activity::Running;
  if (current_ != Current::Nothing) read_events();
}

// --- the loop ------------------------------------------------------------------------------------------

Exit KvmVcpu::run() {
  if (!thread_known_.load(std::memory_order_relaxed)) {
    thread_.emplace(host::KickableThread::current());
    thread_known_.store(true, std::memory_order_release);
  }
  const host::FaultScope vector_scope(*vector_);
  const host::FaultScope own_scope(*this);
  for (;;) {
    // In this order: a kick after the exchange finds its immediate_exit left alone.
    __atomic_store_n(&run_.immediate_exit, u8{0}, __ATOMIC_SEQ_CST);
    if (kicked_.exchange(false)) return {};
    if (changed_) write_all();
    if (state_.activity == Activity::Shutdown) return {ExitReason::Shutdown, Error{}};
    if (!has_apic() && asleep()) return {ExitReason::Halted, Error{}};
    offer_interrupt();
    if (failure_) return {ExitReason::Failed, *failure_};
    const u8 cr8 = static_cast<u8>(run_.cr8);
    const int result = ioctl(file_.number(), KVM_RUN, 0);
    const int number = errno;
    current_ = Current::Nothing;
    unfinished_ = false;
    open_ = run_.ready_for_interrupt_injection != 0 && run_.if_flag != 0;
    if (!has_apic() && run_.cr8 != cr8) context_.platform.set_task_priority(static_cast<u8>(run_.cr8));
    if (result < 0) {
      note(ExitKind::Signal, 0);
      if (number == EINTR || number == EAGAIN) continue;
      return {ExitReason::Failed, host::error_with_number(number, "KVM cannot run the processor")};
    }
    if (const auto exit = after_run()) return *exit;
    if (failure_) return {ExitReason::Failed, *failure_};
  }
}

void KvmVcpu::note(ExitKind kind, u64 detail) {
  counters_.all.count();
  counters_.by_kind[static_cast<usize>(kind)].count();
  if (record_) record_->count(kind, detail);
}

void KvmVcpu::note_exit() {
  switch (run_.exit_reason) {
    case KVM_EXIT_IO:
      return note(run_.io.direction == KVM_EXIT_IO_OUT ? ExitKind::PortWrite : ExitKind::PortRead, run_.io.port);
    case KVM_EXIT_MMIO:
      return note(run_.mmio.is_write != 0 ? ExitKind::MemoryWrite : ExitKind::MemoryRead, run_.mmio.phys_addr & ~u64{0xf});
    case KVM_EXIT_X86_RDMSR:
      return note(ExitKind::MsrRead, run_.msr.index);
    case KVM_EXIT_X86_WRMSR:
      return note(ExitKind::MsrWrite, run_.msr.index);
    case KVM_EXIT_HLT:
      return note(ExitKind::Halt, 0);
    case KVM_EXIT_IOAPIC_EOI:
      return note(ExitKind::EndOfInterrupt, run_.eoi.vector);
    case KVM_EXIT_IRQ_WINDOW_OPEN:
      return note(ExitKind::InterruptWindow, 0);
    case KVM_EXIT_INTERNAL_ERROR:
      return note(ExitKind::NoEmulation, run_.internal.suberror);
    case KVM_EXIT_DEBUG:
      return note(ExitKind::Debug, 0);
    default:
      return note(ExitKind::Other, run_.exit_reason);
  }
}

std::optional<Exit> KvmVcpu::after_run() {
  note_exit();
  switch (run_.exit_reason) {
    case KVM_EXIT_IO:
      port_access();
      return std::nullopt;
    case KVM_EXIT_MMIO:
      memory_access();
      return std::nullopt;
    case KVM_EXIT_X86_RDMSR:
      read_msr();
      return std::nullopt;
    case KVM_EXIT_X86_WRMSR:
      write_msr();
      return std::nullopt;
    case KVM_EXIT_HLT:
      state_.activity = Activity::Halted;
      state_.nmi_pending = 0;
      open_ = run_.if_flag != 0;
      return std::nullopt;  // asleep() has the last word
    case KVM_EXIT_INTR:
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR:
      return std::nullopt;
    case KVM_EXIT_DEBUG:
      stopped_at_ = run_.debug.arch.pc;
      return Exit{};
    case KVM_EXIT_IOAPIC_EOI:
      context_.platform.end_of_interrupt(run_.eoi.vector);
      return std::nullopt;
    case KVM_EXIT_DIRTY_RING_FULL:
      if (auto status = group_.dirty_log().collect(); !status) return Exit{ExitReason::Failed, status.error()};
      return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
      state_.activity = Activity::Shutdown;
      return Exit{ExitReason::Shutdown, Error{}};
    case KVM_EXIT_INTERNAL_ERROR:
      if (run_.internal.suberror == KVM_INTERNAL_ERROR_EMULATION) return interpret_one();
      return Exit{ExitReason::Failed,
                  Error("KVM gave up, internal error ").append_number(run_.internal.suberror).append("; --engine soft runs what it cannot.")};
    case KVM_EXIT_FAIL_ENTRY:
      return Exit{ExitReason::Failed,
                  Error("The processor refused the guest's state, reason ")
                      .append_number(run_.fail_entry.hardware_entry_failure_reason)
                      .append("; --engine soft runs what it does not.")};
    default:
      return Exit{ExitReason::Failed, Error("KVM came back for a reason that Nacre does not know, ")
                                          .append_number(run_.exit_reason)
                                          .append("; use --engine soft, and please report this.")};
  }
}

// An instruction that KVM has no emulation of.
std::optional<Exit> KvmVcpu::interpret_one() {
  read_all();
  interpreter_.flush();
  const interp::StepResult result = interpreter_.execute_one(state_);
  changed_ = true;
  if (result == interp::StepResult::Shutdown) return Exit{ExitReason::Shutdown, Error{}};
  return std::nullopt;
}

void KvmVcpu::port_access() {
  unfinished_ = true;
  u8* data = reinterpret_cast<u8*>(&run_) + run_.io.data_offset;
  const unsigned size = run_.io.size;
  for (u32 i = 0; i < run_.io.count; ++i, data += size) {
    u32 value = 0;
    if (run_.io.direction == KVM_EXIT_IO_OUT) {
      std::memcpy(&value, data, size);
      context_.platform.port_write(run_.io.port, size, value);
    } else {
      value = context_.platform.port_read(run_.io.port, size);
      std::memcpy(data, &value, size);
    }
  }
}

void KvmVcpu::memory_access() {
  unfinished_ = true;
  GuestPhysical address(run_.mmio.phys_addr);
  // What lies across the end of a device's page comes in odd pieces.
  for (u32 at = 0; at < run_.mmio.len;) {
    u32 size = 8;
    while (size > run_.mmio.len - at) size /= 2;
    u64 value = 0;
    if (run_.mmio.is_write != 0) {
      std::memcpy(&value, run_.mmio.data + at, size);
      context_.platform.mmio_write(address, size, value);
    } else {
      value = context_.platform.mmio_read(address, size);
      std::memcpy(run_.mmio.data + at, &value, size);
    }
    at += size;
    address = address + size;
  }
}

void KvmVcpu::read_msr() {
  unfinished_ = true;
  u64 value = state_.tsc_adjust;
  const bool known = run_.msr.index == static_cast<u32>(Msr::IA32_TSC_ADJUST) ||
                     context_.model.msr_read(run_.msr.index, value) ||
                     context_.platform.msr_read(run_.msr.index, value);
  run_.msr.error = known ? 0 : 1;
  run_.msr.data = value;
}

void KvmVcpu::write_msr() {
  unfinished_ = true;
  run_.msr.error = 0;
  const u64 value = run_.msr.data;
  u64 offset = state_.tsc_offset;
  // SDM vol. 3, 17.17.3.
  if (run_.msr.index == static_cast<u32>(Msr::IA32_TIME_STAMP_COUNTER)) {
    offset = value - context_.platform.tsc();
    state_.tsc_adjust += offset - state_.tsc_offset;
  } else if (run_.msr.index == static_cast<u32>(Msr::IA32_TSC_ADJUST)) {
    offset += value - state_.tsc_adjust;
    state_.tsc_adjust = value;
  } else if (!context_.model.msr_write_ignored(run_.msr.index, value) &&
             !context_.platform.msr_write(run_.msr.index, value)) {
    run_.msr.error = 1;
  } else if (run_.msr.index == static_cast<u32>(Msr::IA32_APIC_BASE)) {
    // CPUID's APIC bit, which KVM answers, follows it. The instruction ends first.
    read_all();
    state_.apic_base = value;
    changed_ = true;
  }
  if (offset == state_.tsc_offset) return;
  __atomic_store_n(&state_.tsc_offset, offset, __ATOMIC_RELAXED);  // the local APIC's timer looks at it
  write_tsc_offset();
}

Status KvmVcpu::stop_at(const Stops& stops) {
  kvm_guest_debug asked = {};
  // SDM vol. 3, 17.2.4: an enable bit for each; execution, one byte, is 0.
  u64 enabled = 0;
  for (unsigned i = 0; i < stops.before.size(); ++i) {
    if (!stops.before[i]) continue;
    asked.arch.debugreg[i] = *stops.before[i];
    enabled |= u64{2} << 2 * i;
  }
  if (stops.each_instruction) asked.control |= KVM_GUESTDBG_SINGLESTEP;
  if (stops.at_int3) asked.control |= KVM_GUESTDBG_USE_SW_BP;
  if (enabled != 0) asked.control |= KVM_GUESTDBG_USE_HW_BP;
  if (asked.control != 0) asked.control |= KVM_GUESTDBG_ENABLE;
  asked.arch.debugreg[7] = enabled | 0x400;
  // The trap flag that KVM sets for a step is not to be taken for the guest's.
  if (changed_) write_all();
  if (failure_) return *failure_;
  if (request(file_.number(), KVM_SET_GUEST_DEBUG, &asked) != 0)
    return host::errno_error("KVM does not stop the guest for a debugger");
  return {};
}

Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context) {
  if (!hardware_virtualization()) return std::unique_ptr<engine::Vcpu>(TRY(UserVcpu::create(context)));
  return std::unique_ptr<engine::Vcpu>(TRY(KvmVcpu::create(context)));
}

}  // namespace nacre::kvm
