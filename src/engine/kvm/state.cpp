// cpu::State to KVM and back.
#include <sys/ioctl.h>

#include <cerrno>
#include <cstring>

#include "cpu/model.hpp"
#include "cpu/state_msr.hpp"
#include "engine/kvm/vcpu.hpp"
#include "host/error.hpp"

namespace nacre::kvm {

using cpu::Event;
using cpu::Segment;
using cpu::SegmentAttributes;
using cpu::State;
using x86::Msr;
using x86::Rflags;

namespace {

// Those of State, in an order in which they can be written.
constexpr Msr kPlainMsrs[] = {
    Msr::IA32_SYSENTER_CS,   Msr::IA32_SYSENTER_ESP,   Msr::IA32_SYSENTER_EIP, Msr::IA32_PAT,
    Msr::IA32_MISC_ENABLE,   Msr::IA32_STAR,           Msr::IA32_LSTAR,        Msr::IA32_CSTAR,
    Msr::IA32_FMASK,         Msr::IA32_KERNEL_GS_BASE, Msr::IA32_TSC_AUX,      Msr::IA32_SPEC_CTRL,
    Msr::IA32_MTRR_DEF_TYPE,
};

// KVM's order of the general registers is not the encoding's.
constexpr __u64 kvm_regs::*kGpr[16] = {&kvm_regs::rax, &kvm_regs::rcx, &kvm_regs::rdx, &kvm_regs::rbx,
                                       &kvm_regs::rsp, &kvm_regs::rbp, &kvm_regs::rsi, &kvm_regs::rdi,
                                       &kvm_regs::r8,  &kvm_regs::r9,  &kvm_regs::r10, &kvm_regs::r11,
                                       &kvm_regs::r12, &kvm_regs::r13, &kvm_regs::r14, &kvm_regs::r15};

Segment from_kvm(const kvm_segment& s) {
  const unsigned attributes = (s.type & 15u) | (s.s & 1u) << 4 | (s.dpl & 3u) << 5 |
                              (s.unusable != 0 ? 0u : (s.present & 1u) << 7) | (s.avl & 1u) << 12 |
                              (s.l & 1u) << 13 | (s.db & 1u) << 14 | (s.g & 1u) << 15;
  return {s.selector, static_cast<u16>(attributes), s.limit, s.base};
}

kvm_segment to_kvm(const Segment& s) {
  const auto bit = [&](unsigned n) { return static_cast<u8>(s.attributes >> n & 1); };
  kvm_segment to = {};
  to.base = s.base;
  to.limit = s.limit;
  to.selector = s.selector;
  to.type = static_cast<u8>(s.attributes & SegmentAttributes::type_mask);
  to.s = bit(4);
  to.dpl = static_cast<u8>(s.dpl());
  to.present = bit(7);
  to.avl = bit(12), to.l = bit(13), to.db = bit(14), to.g = bit(15);
  to.unusable = s.present() ? 0 : 1;
  return to;
}

// kvm_msrs with room for its entries. (Its own array stands elsewhere in C++ than in C.)
struct MsrList {
  struct {
    u32 nmsrs = 0, padding = 0;
  } head;
  kvm_msr_entry entries[64] = {};
};
static_assert(offsetof(MsrList, entries) == 8);

}  // namespace

void KvmVcpu::must(int result, const char* what) {
  if (result < 0 && !failure_) failure_ = host::errno_error(what);
}

void KvmVcpu::find_msrs() {
  const auto try_one = [&](u32 number) {
    MsrList one;
    one.head.nmsrs = 1;
    one.entries[0].index = number;
    if (request(file_.number(), host::kKvmGetMsrs, &one) != 1) return;
    if (request(file_.number(), host::kKvmSetMsrs, &one) == 1) msrs_.push_back(number);
  };
  for (const Msr msr : kPlainMsrs) try_one(static_cast<u32>(msr));
  for (const u32 msr : cpu::kFixedMtrrs) try_one(msr);
  for (u32 i = 0; i < cpu::kVariableMtrrs; ++i) try_one(cpu::kFirstVariableMtrr + i);
}

void KvmVcpu::read_msrs() {
  MsrList list;
  for (const u32 msr : msrs_) list.entries[list.head.nmsrs++].index = msr;
  must(request(file_.number(), host::kKvmGetMsrs, &list), "Cannot read MSRs from KVM");
  for (u32 i = 0; i < list.head.nmsrs; ++i) *cpu::msr_in(state_, list.entries[i].index) = list.entries[i].data;
}

void KvmVcpu::write_msrs() {
  MsrList list;
  for (const u32 msr : msrs_) {
    kvm_msr_entry& entry = list.entries[list.head.nmsrs++];
    entry.index = msr;
    entry.data = *cpu::msr_in(state_, msr);
  }
  const int written = request(file_.number(), host::kKvmSetMsrs, &list);
  if (written != static_cast<int>(list.head.nmsrs) && !failure_) {
    failure_ = Error("KVM does not take MSR ")
                   .append_number(msrs_[static_cast<usize>(written < 0 ? 0 : written)])
                   .append(".");
  }
}

u64 KvmVcpu::read_msr_of_kvm(u32 msr) {
  MsrList one;
  one.head.nmsrs = 1;
  one.entries[0].index = msr;
  return request(file_.number(), host::kKvmGetMsrs, &one) == 1 ? one.entries[0].data : 0;
}

void KvmVcpu::write_msr_of_kvm(u32 msr, u64 value) {
  MsrList one;
  one.head.nmsrs = 1;
  one.entries[0].index = msr;
  one.entries[0].data = value;
  const bool written = request(file_.number(), host::kKvmSetMsrs, &one) == 1;
  if (!written && value != 0 && !failure_) failure_ = Error("KVM does not take MSR ").append_number(msr, 16).append(".");
}

// The processor adds it to the host's counter.
void KvmVcpu::write_tsc_offset() {
  u64 offset = state_.tsc_offset;
  if (tsc_offset_attribute_) {
    kvm_device_attr attribute = {};
    attribute.group = KVM_VCPU_TSC_CTRL;
    attribute.attr = KVM_VCPU_TSC_OFFSET;
    attribute.addr = reinterpret_cast<u64>(&offset);
    return must(request(file_.number(), KVM_SET_DEVICE_ATTR, &attribute),
                "KVM does not take a time stamp offset");
  }
  MsrList one;
  one.head.nmsrs = 1;
  one.entries[0].index = static_cast<u32>(Msr::IA32_TIME_STAMP_COUNTER);
  one.entries[0].data = context_.platform.tsc() + offset;
  must(request(file_.number(), host::kKvmSetMsrs, &one) == 1 ? 0 : -1, "KVM does not take a time stamp");
}

// What came to us as an exit is carried out by us, and its instruction ended by KVM on its way in again.
void KvmVcpu::finish_instruction() {
  if (!unfinished_) return;
  const u8 asked = __atomic_exchange_n(&run_.immediate_exit, u8{1}, __ATOMIC_SEQ_CST);
  // A wide access to a device, and a repeated one, comes in pieces; KVM goes back to the guest, and so ends this, after 1024.
  while (unfinished_) {
    unfinished_ = false;
    const int result = ioctl(file_.number(), KVM_RUN, 0);
    if (result < 0 && errno != EINTR) must(result, "KVM cannot end an instruction");
    if (result == 0 && run_.exit_reason == KVM_EXIT_IO) port_access();
    if (result == 0 && run_.exit_reason == KVM_EXIT_MMIO) memory_access();
  }
  if (asked == 0) __atomic_store_n(&run_.immediate_exit, u8{0}, __ATOMIC_SEQ_CST);
  open_ = run_.ready_for_interrupt_injection != 0 && run_.if_flag != 0;
}

void KvmVcpu::read_general() {
  if (current_ != Current::Nothing) return;
  finish_instruction();
  // First: this is where an INIT or a start-up message takes effect that has come meanwhile.
  if (has_apic()) read_activity();
  kvm_regs regs = {};
  must(request(file_.number(), KVM_GET_REGS, &regs), "Cannot read registers from KVM");
  for (usize i = 0; i < 16; ++i) state_.gpr[i] = regs.*kGpr[i];
  state_.rip = regs.rip;
  state_.rflags = regs.rflags;
  kvm_sregs sregs = {};
  must(request(file_.number(), KVM_GET_SREGS, &sregs), "Cannot read registers from KVM");
  State& s = state_;
  s.segment[x86::CS] = from_kvm(sregs.cs), s.segment[x86::SS] = from_kvm(sregs.ss),
  s.segment[x86::DS] = from_kvm(sregs.ds);
  s.segment[x86::ES] = from_kvm(sregs.es), s.segment[x86::FS] = from_kvm(sregs.fs),
  s.segment[x86::GS] = from_kvm(sregs.gs);
  s.tr = from_kvm(sregs.tr), s.ldtr = from_kvm(sregs.ldt);
  s.gdtr = {sregs.gdt.base, sregs.gdt.limit}, s.idtr = {sregs.idt.base, sregs.idt.limit};
  s.cr0 = sregs.cr0, s.cr2 = sregs.cr2, s.cr3 = sregs.cr3, s.cr4 = sregs.cr4, s.efer = sregs.efer;
  if (has_apic()) {
    s.apic_base = sregs.apic_base;
    cr8_ = static_cast<u8>(sregs.cr8);
  }
  read_events();
  current_ = Current::General;
}

void KvmVcpu::read_events() {
  kvm_vcpu_events events = {};
  must(request(file_.number(), KVM_GET_VCPU_EVENTS, &events), "Cannot read events from KVM");
  State& s = state_;
  s.pending = {};
  if (events.exception.injected != 0) {
    s.pending.kind = Event::Kind::Exception;
    s.pending.vector = events.exception.nr;
    s.pending.has_error_code = events.exception.has_error_code != 0;
    s.pending.error_code = events.exception.error_code;
    s.pending.cr2 = s.cr2;
  } else if (events.nmi.injected != 0) {
    s.pending.kind = Event::Kind::Nmi;
    s.pending.vector = 2;
  } else if (events.interrupt.injected != 0) {
    s.pending.kind =
        events.interrupt.soft != 0 ? Event::Kind::SoftwareInterrupt : Event::Kind::ExternalInterrupt;
    s.pending.vector = events.interrupt.nr;
  }
  s.interrupt_shadow = events.interrupt.shadow != 0;
  s.nmi_blocked = events.nmi.masked != 0;
  s.nmi_pending = events.nmi.pending;
}

u8 KvmVcpu::last_exception() {
  kvm_vcpu_events events = {};
  must(request(file_.number(), KVM_GET_VCPU_EVENTS, &events), "Cannot read events from KVM");
  return events.exception.nr;
}

void KvmVcpu::write_events() {
  const State& s = state_;
  kvm_vcpu_events events = {};
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
  switch (s.pending.kind) {
    case Event::Kind::Exception:
      events.exception.injected = 1;
      events.exception.nr = s.pending.vector;
      events.exception.has_error_code = s.pending.has_error_code ? 1 : 0;
      events.exception.error_code = s.pending.error_code;
      break;
    case Event::Kind::ExternalInterrupt:
    case Event::Kind::SoftwareInterrupt:
      events.interrupt.injected = 1;
      events.interrupt.nr = s.pending.vector;
      events.interrupt.soft = s.pending.kind == Event::Kind::SoftwareInterrupt ? 1 : 0;
      break;
    case Event::Kind::Nmi:
      events.nmi.injected = 1;
      break;
    case Event::Kind::None:
      break;
  }
  events.interrupt.shadow = s.interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
  events.nmi.masked = s.nmi_blocked ? 1 : 0;
  events.nmi.pending = s.nmi_pending;
  must(request(file_.number(), KVM_SET_VCPU_EVENTS, &events), "KVM does not take pending events");
}

void KvmVcpu::read_all() {
  read_general();
  if (current_ == Current::All) return;
  State& s = state_;
  read_msrs();
  kvm_debugregs debug = {};
  must(request(file_.number(), KVM_GET_DEBUGREGS, &debug), "Cannot read debug registers from KVM");
  for (usize i = 0; i < 4; ++i) s.dr[i] = debug.db[i];
  s.dr6 = debug.dr6, s.dr7 = debug.dr7;
  kvm_xcrs xcrs = {};
  must(request(file_.number(), KVM_GET_XCRS, &xcrs), "Cannot read XCR0 from KVM");
  if (xcrs.nr_xcrs > 0) s.xcr0 = xcrs.xcrs[0].value;
  host::KvmXsave xsave = {};
  must(request(file_.number(), host::kKvmGetXsave, &xsave), "Cannot read vector registers from KVM");
  static_assert(sizeof xsave >= cpu::kXsaveBytes);
  std::memcpy(s.xsave, xsave.bytes, cpu::kXsaveBytes);
  current_ = Current::All;
}

void KvmVcpu::write_all() {
  State& s = state_;
  changed_ = false;
  unfinished_ = false;
  current_ = Current::All;
  if (s.pending.kind == Event::Kind::Exception && s.pending.vector == static_cast<u8>(x86::Vector::PF))
    s.cr2 = s.pending.cr2;
  kvm_sregs sregs = {};
  sregs.cs = to_kvm(s.segment[x86::CS]), sregs.ss = to_kvm(s.segment[x86::SS]),
  sregs.ds = to_kvm(s.segment[x86::DS]);
  sregs.es = to_kvm(s.segment[x86::ES]), sregs.fs = to_kvm(s.segment[x86::FS]),
  sregs.gs = to_kvm(s.segment[x86::GS]);
  sregs.tr = to_kvm(s.tr), sregs.ldt = to_kvm(s.ldtr);
  sregs.gdt.base = s.gdtr.base, sregs.gdt.limit = s.gdtr.limit;
  sregs.idt.base = s.idtr.base, sregs.idt.limit = s.idtr.limit;
  sregs.cr0 = s.cr0, sregs.cr2 = s.cr2, sregs.cr3 = s.cr3, sregs.cr4 = s.cr4, sregs.efer = s.efer;
  sregs.cr8 = has_apic() ? cr8_ : context_.platform.task_priority();
  sregs.apic_base = s.apic_base;
  must(request(file_.number(), KVM_SET_SREGS, &sregs), "KVM does not take control and segment registers");
  kvm_regs regs = {};
  for (usize i = 0; i < 16; ++i) regs.*kGpr[i] = s.gpr[i];
  regs.rip = s.rip;
  regs.rflags = s.rflags;
  must(request(file_.number(), KVM_SET_REGS, &regs), "KVM does not take general registers");
  write_msrs();
  write_tsc_offset();
  if (context_.model.xcr0_mask() != 0) {
    kvm_xcrs xcrs = {};
    xcrs.nr_xcrs = 1;
    xcrs.xcrs[0].value = s.xcr0;
    must(request(file_.number(), KVM_SET_XCRS, &xcrs), "KVM does not take XCR0");
  }
  host::KvmXsave xsave = {};
  std::memcpy(xsave.bytes, s.xsave, cpu::kXsaveBytes);
  must(request(file_.number(), host::kKvmSetXsave, &xsave), "KVM does not take vector registers");
  kvm_debugregs debug = {};
  for (usize i = 0; i < 4; ++i) debug.db[i] = s.dr[i];
  debug.dr6 = s.dr6, debug.dr7 = s.dr7;
  must(request(file_.number(), KVM_SET_DEBUGREGS, &debug), "KVM does not take debug registers");
  write_events();
  if (has_apic()) {
    write_apic();
    write_activity();
    open_ = false;  // it asks for a window first: KVM's local APIC may not listen to the 8259
    return;
  }
  open_ = (s.rflags & Rflags::IF) != 0 && !s.interrupt_shadow && s.pending.kind == Event::Kind::None;
}

State& KvmVcpu::state() {
  read_all();
  return state_;
}

const State& KvmVcpu::glance() {
  read_general();
  return state_;
}

}  // namespace nacre::kvm
