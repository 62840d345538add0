// The sixteen ISA interrupt wires. Each ends at an input of the 8259 pair and at a pin of the IOAPIC, as on
// every PC since the Pentium Pro; the guest masks the one it does not use. Freestanding; under the board's
// lock.
#pragma once

#include "board/layout.hpp"
#include "device/debug/test_device.hpp"
#include "irq/ioapic/ioapic.hpp"
#include "irq/line.hpp"
#include "irq/pic/pic.hpp"

namespace nacre::board {

class IsaLine final : public irq::Line {
 public:
  IsaLine(irq::Pic& pic, irq::Ioapic& ioapic, unsigned number)
      : pic_(pic), ioapic_(ioapic), number_(number) {}

  void set(bool asserted) override {
    pic_.set_input(number_, asserted);
    ioapic_.set_pin(number_ == kIrqTimer ? kGsiTimer : number_, asserted);
  }

 private:
  irq::Pic& pic_;
  irq::Ioapic& ioapic_;
  unsigned number_;
};

// All wires, by number, for the test device: whatever else drives one, the last word counts.
class AllLines final : public device::TestLines {
 public:
  AllLines(irq::Pic& pic, irq::Ioapic& ioapic) : pic_(pic), ioapic_(ioapic) {}

  void set(unsigned line, bool asserted) override {
    if (line < kIsaLines)
      IsaLine(pic_, ioapic_, line).set(asserted);
    else
      ioapic_.set_pin(line, asserted);
  }

 private:
  static constexpr unsigned kIsaLines = 16;

  irq::Pic& pic_;
  irq::Ioapic& ioapic_;
};

}  // namespace nacre::board
