// ProcessorPort: the board as one processor sees it: its local APIC and paravirtual clock, and behind them
// the shared address spaces. Freestanding; under the board's lock, tsc() and random() also without.
#pragma once

#include "board/adapters.hpp"
#include "cpu/platform.hpp"
#include "cpu/state.hpp"
#include "irq/apic_bus.hpp"
#include "irq/local_apic/local_apic.hpp"
#include "time/steal_time/steal_time.hpp"

namespace nacre::board {

// What a processor's accesses may do to the board as a whole.
class ProcessorHost {
 public:
  // Something with a deadline that this processor keeps was touched; `candidate` is one that may be new.
  virtual void timers_touched(unsigned processor, u64 candidate) = 0;
  virtual u32 port_read(u16 port, unsigned size) = 0;
  virtual void port_write(u16 port, unsigned size, u32 value) = 0;

 protected:
  ~ProcessorHost() = default;
};

class ProcessorPort final : public cpu::Platform, public irq::Processor, public time::GuestTsc {
 public:
  struct Wiring {
    Environment& environment;
    ProcessorHost& host;
    memory::AddressSpace& memory;
    time::GuestWriter& ram;
    irq::GuestWord& word;
    time::GuestByte& byte;
    time::Clock& clock;
    time::WallClock& wall_clock;
    irq::ApicBus& bus;
    irq::EoiSink& ioapic;
    irq::ExtIntSource& pic;
    const time::Instant& base;  // on both clocks, of a TSC without offset: what paravirtual clocks start from
  };
  ProcessorPort(const Wiring& wiring, unsigned number, u64 tsc_hz);
  ProcessorPort(const ProcessorPort&) = delete;
  ProcessorPort& operator=(const ProcessorPort&) = delete;

  void attach(const cpu::State& state) { state_ = &state; }
  void reset();
  [[nodiscard]] irq::LocalApic& local_apic() { return local_apic_; }
  [[nodiscard]] const irq::LocalApic& local_apic() const { return local_apic_; }
  [[nodiscard]] time::PvClock& pvclock() { return pvclock_; }
  // On the processor's thread, outside guest code, without the lock.
  [[nodiscard]] time::StealTime& steal_time() { return steal_time_; }

  // cpu::Platform
  u64 mmio_read(GuestPhysical address, unsigned size) override;
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override;
  u32 port_read(u16 port, unsigned size) override { return wiring_.host.port_read(port, size); }
  void port_write(u16 port, unsigned size, u32 value) override { wiring_.host.port_write(port, size, value); }
  bool interrupt_pending() override { return local_apic_.interrupt_pending(); }
  int acknowledge_interrupt() override { return local_apic_.acknowledge(); }
  void end_of_interrupt(u8 vector) override { wiring_.ioapic.end_of_interrupt(vector); }
  u8 task_priority() override { return local_apic_.cr8(); }
  void set_task_priority(u8 cr8) override { local_apic_.set_cr8(cr8); }
  bool msr_read(u32 msr, u64& value) override;
  bool msr_write(u32 msr, u64 value) override;
  u64 hypercall(const Hypercall& call) override;
  u64 tsc() override { return wiring_.environment.tsc(); }
  u64 random() override { return wiring_.environment.random(); }

  // irq::Processor; time::GuestTsc
  void interrupt_ready() override { wiring_.environment.kick(number_); }
  void nmi() override { wiring_.environment.non_maskable(number_); }
  void smi() override {}  // there is no system management mode: nothing would handle it
  void init() override { wiring_.environment.init(number_); }
  void startup(u8 vector) override { wiring_.environment.start_up(number_, vector); }
  u64 guest_tsc() override;
  time::Instant instant() override { return {wiring_.base.tsc + tsc_offset(), wiring_.base.ns}; }

 private:
  [[nodiscard]] u64 tsc_offset() const;
  [[nodiscard]] u64 send_ipis(const Hypercall& call);
  [[nodiscard]] bool in_local_apic(GuestPhysical address, unsigned size) const;

  Wiring wiring_;
  unsigned number_;
  const cpu::State* state_ = nullptr;
  irq::LocalApic local_apic_;
  time::PvClock pvclock_;
  time::StealTime steal_time_;
};

}  // namespace nacre::board
