// The engine interface: what runs guest instructions. One object per vCPU. Engines that execute in
// user space (interp, soft) reach devices through cpu::Platform themselves, so the reasons to come back
// are few; kvm turns its exits into the same Platform calls.
#pragma once

#include <span>

#include "base/result.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "engine/counter.hpp"
#include "irq/local_apic/local_apic.hpp"

namespace nacre::engine {

enum class ExitReason : u8 {
  Kicked,    // kick() was called, or an interrupt became deliverable: look around and call run() again
  Halted,    // HLT, or an activity other than Running: sleep until an event is pending
  Shutdown,  // triple fault
  Failed,    // the engine cannot go on; error says why
};

struct Exit {
  ExitReason reason = ExitReason::Kicked;
  Error error;  // Failed only
};

class Vcpu {
 public:
  virtual ~Vcpu() = default;

  // On the owning thread, before it is confined (host/confine.hpp) and before the first run(): what an engine must ask
  // of the host there. What it cannot have it does without; the answer, if not empty, says what and why. Optional.
  virtual Status enter_thread() { return {}; }
  // Runs until something outside the processor is needed. Only from the owning thread. Delivers
  // pending NMIs and external interrupts by itself when the guest can take them: it asks
  // Platform::interrupt_pending() when run() starts and whenever the guest opens an interrupt window.
  virtual Exit run() = 0;
  // Makes run() return soon, once; a kick while run() is not executing makes the next run() return. Any
  // thread, async-signal-safe. The owning thread kicks itself too: from a handler of the kick signal
  // (host/signals.hpp: timers arrive so) and from within Platform calls. Then it must not send a signal.
  virtual void kick() = 0;
  // The architectural state, complete and current while run() is not executing. Changes made to it
  // take effect on the next run(); call state_changed() after making any.
  virtual cpu::State& state() = 0;
  virtual void state_changed() = 0;
  // To look at: RFLAGS, the control and segment registers, activity and what is pending are current, the rest perhaps
  // not. Cheaper than state() for an engine that keeps its state elsewhere.
  virtual const cpu::State& glance() { return state(); }
  // The same where nothing but State::activity or nmi_pending has changed: no translation is stale.
  virtual void activity_changed() { state_changed(); }
  // Where Group::local_apics() is not null: what the board's local APIC has lent (irq::LocalApic::lend()), and that back.
  // Such a processor sleeps in run() and starts others by itself. As state(): only while run() is not executing.
  virtual Status take_apic(const irq::LocalApic::Loan& loan) {
    static_cast<void>(loan);
    return Error{"This engine has no local APIC of its own."};
  }
  virtual Result<irq::LocalApic::Loan> return_apic() { return Error{"This engine has no local APIC of its own."}; }
  // What the engine counts, for the user (`nacre stat`); as long as the Vcpu lives. Any thread.
  [[nodiscard]] virtual std::span<const NamedCounter> counters() const { return {}; }
  // RAM in [address, address + bytes) was stored to by somebody who is no processor: what was translated
  // from it is dropped. From 0 on ~0 bytes: all of memory. Only from the owning thread, while run() is not
  // executing.
  virtual void memory_changed(GuestPhysical address, u64 bytes) = 0;
};

}  // namespace nacre::engine
