// The local APIC of one processor: xAPIC and x2APIC interfaces, priorities, timer, IPIs.
// SDM vol. 3, chapter 11 (all section numbers here are of that chapter).
//
// Wake-ups: whenever an interrupt becomes deliverable, Processor::interrupt_ready() is called; the
// vCPU then asks interrupt_pending() and takes the vector with acknowledge(). Masking by RFLAGS.IF is
// the processor's own matter, masking by priority is done here.
//
// Freestanding; all calls under the board's lock. Registers, MSRs, CR8 and acknowledge() only from the
// processor's own thread (the guest ends interrupts in its RAM without a lock, see pv_eoi.cpp); messages,
// wires and time from any.
#pragma once

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/types.hpp"
#include "irq/line.hpp"
#include "irq/local_apic/registers.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

// The processor that this local APIC belongs to. Calls may come while the processor runs.
class Processor {
 public:
  virtual void interrupt_ready() = 0;  // interrupt_pending() became true: wake up, leave the loop
  virtual void nmi() = 0;
  virtual void smi() = 0;
  virtual void init() = 0;              // 9.1; the local APIC has done its own part already
  virtual void startup(u8 vector) = 0;  // SIPI: start at vector << 12 if waiting for it
  // The guest's time stamp counter now, offset included: what the TSC deadline is compared with.
  virtual u64 guest_tsc() = 0;

 protected:
  ~Processor() = default;
};

// Sends what the ICR says. ApicBus implements it.
class IpiSink {
 public:
  virtual void send(const Message& message, Shorthand shorthand, u32 sender) = 0;  // sender: its initial id

 protected:
  ~IpiSink() = default;
};

// An aligned word of guest RAM. False when there is no RAM at that address.
class GuestWord {
 public:
  virtual bool load(GuestPhysical address, u32& value) = 0;
  virtual bool store(GuestPhysical address, u32 value) = 0;

 protected:
  ~GuestWord() = default;
};

// MSR_KVM_PV_EOI_EN: where the guest keeps the word by which it ends interrupts without an EOI write.
inline constexpr u32 kMsrPvEoi = 0x4b564d04;

class LocalApic {
 public:
  // The timer counts at this rate before division (CPUID.15H may report it as the crystal clock):
  // one tick is one nanosecond.
  static constexpr u64 kTimerHz = time::kNsPerSecond;
  // A periodic timer fires at most this often, whatever the guest programs.
  static constexpr u64 kShortestPeriodNs = 10'000;
  // Six LVT entries, integrated APIC, ends of interrupts that need not be broadcast (as KVM's claims too). 11.4.8
  static constexpr u32 kVersion = 0x0105'0014;
  static constexpr u64 kWindowBytes = 4096;

  struct Ports {
    time::Clock& clock;
    Processor& processor;
    IpiSink& ipi;
    EoiSink& eoi;                 // the IOAPICs
    ExtIntSource& extint;         // the 8259 pair
    GuestWord* pv_eoi = nullptr;  // null: no paravirtual EOI, its MSR faults
  };
  struct Config {
    u32 id = 0;
    bool bootstrap = true;
    u64 tsc_khz = 1'000'000;  // rate of guest_tsc(); not 0
    u8 physical_bits = 46;    // MAXPHYADDR
  };

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 id = 0;  // the initial APIC id; xAPIC shows its low 8 bits
    u64 base = 0;
    u64 command = 0;
    u64 timer_expiry_ns = time::kNever;  // when the count reaches 0; kNever: stopped
    u64 tsc_deadline = 0;                // 0: disarmed
    u64 pv_eoi_msr = 0;
    u32 xapic_id = 0;  // bits 31..24 of the ID register, writable in xAPIC mode
    u32 task_priority = 0, logical_destination = 0, destination_format = 0, spurious = 0;
    u32 isr[8] = {}, tmr[8] = {}, irr[8] = {};
    u32 error_status = 0, error_pending = 0;
    u32 lvt[6] = {};  // from LvtTimer on
    u32 initial_count = 0, divide = 0;
    u32 lint_level = 0;      // wires LINT0 (bit 0) and LINT1 (bit 1)
    u32 extint_latched = 0;  // an ExtINT message waits for acknowledge()
    u32 pv_eoi_offered = 0;  // the highest interrupt in service may end by the guest's word
    constexpr bool operator==(const State&) const = default;
  };

  LocalApic(const Ports& ports, const Config& config);

  void reset();  // power-on
  void init();   // INIT: everything but the id and IA32_APIC_BASE. 11.4.7.3
  // What firmware leaves behind on the bootstrap processor: enabled, LINT0 = ExtINT, LINT1 = NMI, so
  // that the 8259 pair reaches the processor ("virtual wire mode"). MP specification 3.6.2.2.
  void configure_virtual_wire();

  // Interrupts to the processor. interrupt_pending() is a load.
  [[nodiscard]] bool interrupt_pending() const { return ready_; }
  int acknowledge();  // the vector, or -1 when there is none after all
  [[nodiscard]] u8 cr8() const { return static_cast<u8>(state_.task_priority >> 4 & 0xf); }
  void set_cr8(u8 value);

  // Messages. accepts(): is this APIC in the destination set? accept(): true unless it was refused.
  [[nodiscard]] bool accepts(Destination mode, u32 destination) const;
  bool accept(Delivery delivery, u8 vector, Trigger trigger);
  [[nodiscard]] bool takes_interrupts() const { return mode() != Mode::Disabled && software_enabled(); }
  [[nodiscard]] u8 processor_priority() const;
  [[nodiscard]] u32 id() const;  // as destinations name it now
  [[nodiscard]] u32 initial_id() const { return state_.id; }
  // LINT0 (the 8259's INT pin) and LINT1 (NMI).
  void set_lint(unsigned pin, bool asserted);

  // The memory window at base_address(); decodes only in xAPIC mode (all ones, or dropped, otherwise).
  u64 mmio_read(u64 offset, unsigned size);
  void mmio_write(u64 offset, unsigned size, u64 value);
  [[nodiscard]] bool decodes_mmio() const { return !lent_ && mode() == Mode::XApic; }
  [[nodiscard]] u64 base_address() const;

  // IA32_APIC_BASE, IA32_TSC_DEADLINE, 800h..8ffh and the paravirtual EOI's. False: #GP(0).
  bool msr_read(u32 msr, u64& value);
  bool msr_write(u32 msr, u64 value);
  [[nodiscard]] static constexpr bool owns_msr(u32 msr) {
    return msr == 0x1b || msr == 0x6e0 || (msr >= 0x800 && msr <= 0x8ff) || msr == kMsrPvEoi;
  }
  [[nodiscard]] u64 apic_base() const { return state_.base; }
  [[nodiscard]] bool is_x2apic() const { return mode() == Mode::X2Apic; }

  // The timer. Absolute ns of the next thing it does by itself; kNever for none.
  [[nodiscard]] u64 next_deadline() const;
  void advance(u64 now_ns);
  // The guest wrote its TSC, or the offset changed: the deadline lies elsewhere now.
  void tsc_changed();

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

  // Where the engine has a local APIC of its own (the host's kernel's), this one lends it its contents. Until it gets
  // them back it has no registers, timer or messages; what is left of it is the end of the 8259's wire:
  // interrupt_pending() says whether that is asserted (the other knows whether it listens), acknowledge() asks the 8259.
  // task_priority() and set_task_priority() then serve whoever has it as a place to keep CR8.
  struct Loan {
    State state;
    u32 current_count = 0;  // of the timer, instead of the instant at which it expires
  };
  [[nodiscard]] Loan lend();
  Status take_back(const Loan& loan);
  [[nodiscard]] bool is_lent() const { return lent_; }

 private:
  enum class Mode : u8 { Disabled, XApic, X2Apic };

  [[nodiscard]] Mode mode() const;
  [[nodiscard]] bool software_enabled() const { return Spurious(state_.spurious)[Spurious::enabled]; }
  [[nodiscard]] Lvt lvt(ApicRegister entry) const;
  [[nodiscard]] bool takes_extint() const;
  void reset_registers();
  bool write_base(u64 value);

  // One register by index; false: no such register (or, for reads, write-only).
  bool read_register(u8 index, u32& value);
  bool write_register(u8 index, u32 value);
  bool write_x2apic(u8 index, u64 value);
  void write_spurious(u32 value);
  void write_lvt(ApicRegister entry, u32 value);
  void send_command();
  void raise_local(ApicRegister entry);
  void report_error(u32 error);
  void end_of_interrupt();
  bool write_pv_eoi_msr(u64 value);
  void offer_pv_eoi(int vector);
  void settle_pv_eoi();
  void follow_wire();
  int acknowledge_wire();
  void update();  // recompute ready_ and tell the processor when it rises

  [[nodiscard]] unsigned divisor() const;
  [[nodiscard]] TimerMode timer_mode() const;
  [[nodiscard]] u32 current_count();
  void start_timer(u32 count);
  void write_timer_lvt(u32 value);
  void write_divide(u32 value);
  void write_tsc_deadline(u64 value);
  void plan_deadline();

  Ports ports_;
  Config config_;
  State state_;
  u64 deadline_ns_ = time::kNever;  // tsc_deadline on the clock
  bool ready_ = false;
  bool lent_ = false;
};

}  // namespace nacre::irq
