// Platform: what an instruction can reach outside its processor. The board implements it; engines
// that run instructions in user space call it; tests invent it. All nondeterminism a processor sees
// (time, interrupts, devices, randomness) comes through here.
// Called on the vCPU's own thread only. Freestanding.
#pragma once

#include "base/address.hpp"
#include "base/types.hpp"

namespace nacre::cpu {

class Platform {
 public:
  // Physical memory that is not RAM or ROM. size is 1, 2, 4 or 8 bytes; unclaimed reads give all ones.
  virtual u64 mmio_read(GuestPhysical address, unsigned size) = 0;
  virtual void mmio_write(GuestPhysical address, unsigned size, u64 value) = 0;
  // I/O ports. size is 1, 2 or 4 bytes; unclaimed reads give all ones.
  virtual u32 port_read(u16 port, unsigned size) = 0;
  virtual void port_write(u16 port, unsigned size, u32 value) = 0;

  // True when an external interrupt could be acknowledged now (task priority considered; IF is the
  // processor's own matter). Cheap: asked before every block of translated code after a kick.
  virtual bool interrupt_pending() = 0;
  // Acknowledges the highest interrupt and returns its vector, or -1 when there is none after all.
  virtual int acknowledge_interrupt() = 0;
  // From an engine that has the local APIC itself: a level-triggered interrupt is over that the I/O APIC waits for.
  virtual void end_of_interrupt(u8 vector) { static_cast<void>(vector); }
  // CR8: bits 7..4 of the task priority register.
  virtual u8 task_priority() = 0;
  virtual void set_task_priority(u8 cr8) = 0;

  // MSRs that are not the processor core's own (x2APIC, IA32_APIC_BASE, TSC deadline, paravirtual
  // clock). False: no such register or a bad value, the guest gets #GP(0).
  virtual bool msr_read(u32 msr, u64& value) = 0;
  virtual bool msr_write(u32 msr, u64 value) = 0;

  // VMCALL or VMMCALL in ring 0, of a guest that was shown the KVM leaves: number and arguments as
  // Linux, Documentation/virt/kvm/x86/hypercalls.rst has them. Returns what RAX gets.
  struct Hypercall {
    u64 number = 0;
    u64 argument[4] = {};
    bool wide = true;  // from 64-bit mode; else each of the above has 32 bits
    // Results, but for what a call counts.
    static constexpr u64 kUnknown = u64{0} - 1000;  // -KVM_ENOSYS
    static constexpr u64 kInvalid = u64{0} - 22;    // -KVM_EINVAL
    static constexpr u64 kDenied = u64{0} - 1;      // -KVM_EPERM
  };
  virtual u64 hypercall(const Hypercall& call) = 0;

  // Between the two no other processor executes anything: for a locked access that crosses a page.
  virtual void begin_exclusive() {}
  virtual void end_exclusive() {}

  // The host's time stamp counter as this platform sees it, before the guest's offset.
  virtual u64 tsc() = 0;
  virtual u64 random() = 0;  // RDRAND, RDSEED

 protected:
  ~Platform() = default;
};

// Told by the processor core what makes cached translations stale. The interpreter's own TLB and the
// translator's are flushed through this.
class TranslationObserver {
 public:
  virtual void flush_all() = 0;                      // CR0.PG/WP, CR4, EFER changes: global ones too
  virtual void flush_non_global() = 0;               // MOV CR3
  // MOV CR3 with CR4.PCIDE: another PCID is current. `keep`: what is still cached of `to` may be used again; what is of
  // `from` may be until somebody forgets it. An observer that does not tell PCIDs apart drops what is not global.
  virtual void switch_space(u16 from, u16 to, bool keep) {
    static_cast<void>(from), static_cast<void>(to), static_cast<void>(keep);
    flush_non_global();
  }
  // INVPCID: nothing that is cached of a PCID, or of any, that is not current may be used any more.
  virtual void forget_space(u16 pcid) { static_cast<void>(pcid); }
  virtual void forget_other_spaces() {}
  virtual void flush_page(GuestLinear address) = 0;  // INVLPG: also global
  // RAM that holds translated code was written: [address, address + bytes), within one page.
  virtual void code_written(GuestPhysical address, usize bytes) = 0;
  // The page walker set accessed or dirty bits in this entry of a page table.
  virtual void table_marked(GuestPhysical entry) { static_cast<void>(entry); }

 protected:
  ~TranslationObserver() = default;
};

}  // namespace nacre::cpu
