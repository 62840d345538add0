// Board: everything of the PC that is not a processor. It owns the guest-physical address space, the port
// space, the interrupt and time hardware and the devices, and answers for them to the processors.
//
// Life: construct, assemble() once (builds the maps and writes the firmware tables into RAM), let a loader
// in board/boot place a kernel, run processors against processor(i). reset() brings it back to where
// assemble() left it; RAM's contents are the owner's matter: it zeroes them before.
//
// Threads: none are known here. The board is one object without a lock; its owner makes every call (those
// through processor(i) included) under one lock of its own, but for `memory()`, which after assemble() is
// constant and may be used by anyone. Platform::tsc and Platform::random may be called without the lock if
// the Environment's are safe to. Time stands still inside a call: the board reads Environment::now() itself.
// Freestanding.
#pragma once

#include <optional>
#include <span>

#include "base/result.hpp"
#include "board/chipset.hpp"
#include "board/environment.hpp"
#include "board/layout.hpp"
#include "board/options.hpp"
#include "board/processor_port.hpp"
#include "memory/address_space.hpp"
#include "memory/port_space.hpp"

namespace nacre::board {

class Board final : private ProcessorHost {
 public:
  Board(const Options& options, Environment& environment);
  Board(const Board&) = delete;
  Board& operator=(const Board&) = delete;

  // An Error when the options are not possible (memory of 0, not whole pages …).
  Status assemble();
  void reset();

  [[nodiscard]] memory::AddressSpace& memory() { return memory_; }
  [[nodiscard]] const Options& options() const { return options_; }
  // Guest-physical address of the ACPI root pointer, for loaders.
  [[nodiscard]] u64 rsdp() const { return kTablesBase; }

  // What processor `i` sees. Before its first instruction, attach() it to its state: the board reads the
  // time stamp offset there and nothing else.
  [[nodiscard]] cpu::Platform& processor(unsigned i) { return port(i); }
  // Without the lock, on the thread of processor i, outside guest code.
  [[nodiscard]] time::StealTime& steal_time(unsigned i) { return port(i).steal_time(); }
  void attach(unsigned i, const cpu::State& state) { port(i).attach(state); }
  // To be called when the processor's time stamp offset has changed.
  void tsc_changed(unsigned i);

  // When advance(i) must be called at the latest, in Environment::now() time; kNever when nothing is armed.
  // Each processor has its local APIC's timer; those of the chipset are kept by processor 0. Any call into
  // the board may change it; Environment::deadline_moved(i) is called when it became earlier than what this
  // function last returned.
  [[nodiscard]] u64 next_deadline(unsigned i);
  [[nodiscard]] u64 next_deadline();  // of all
  // Lets timers fire up to Environment::now(): one processor's, or all.
  void advance(unsigned i);
  void advance();

  // Input of port 0 (COM1) or 1 (COM2). Takes as many bytes as it has room for now and returns their number.
  usize serial_input(unsigned port, std::span<const u8> bytes) { return chipset_.serial_input(port, bytes); }
  // The ACPI power button: the guest is asked to shut down.
  void press_power_button() { chipset_.press_power_button(); }

  // PCI functions are attached before assemble(); this is where their interrupts go.
  [[nodiscard]] irq::MessageSink& messages() { return bus_; }
  // A processor's write to memory that is a device's doorbell, which is done then. Without the lock.
  [[nodiscard]] bool ring(GuestPhysical address) { return chipset_.pci().ring(address); }

  // The engine has the processors' local APICs (irq::LocalApic::lend()): messages go to `elsewhere`. Null: it has them
  // no longer. The caller moves what is in them.
  void lend_local_apics(irq::MessageSink* elsewhere) {
    bus_.lend(elsewhere);
    chipset_.ioapic().announce_all();
  }

  // The parts, for tests and for whoever saves their state.
  [[nodiscard]] Chipset& chipset() { return chipset_; }
  [[nodiscard]] irq::LocalApic& local_apic(unsigned i) { return port(i).local_apic(); }

 private:
  // The 8259 pair's INT wire goes to LINT0 of every processor; only the first leaves it unmasked.
  class PicOutput final : public irq::Line {
   public:
    explicit PicOutput(irq::ApicBus& bus) : bus_(bus) {}
    void set(bool asserted) override {
      for (usize i = 0; i < bus_.count(); ++i) bus_.apic(i).set_lint(0, asserted);
    }

   private:
    irq::ApicBus& bus_;
  };

  void timers_touched(unsigned processor, u64 candidate) override;
  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;

  [[nodiscard]] Status check_options() const;
  Status map_ram();
  void shadow_firmware();
  void write_tables();
  void add_processors();
  ProcessorPort& port(unsigned i);

  const Options options_;
  Environment& environment_;
  memory::AddressSpace memory_;
  memory::PortSpace ports_;
  RamWriter ram_writer_;
  RamWord ram_word_;
  RamByte ram_byte_;
  irq::ApicBus bus_;
  PicOutput pic_output_;
  Chipset chipset_;
  std::optional<ProcessorPort> processors_[kMaxProcessors];
  u64 announced_deadline_[kMaxProcessors] = {};  // what next_deadline() last returned
  time::Instant base_;                           // at reset()
};

}  // namespace nacre::board
