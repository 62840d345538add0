// Line: the driving end of one interrupt wire. A device is given a Line and asserts it; it does not
// know whether an 8259, an IOAPIC pin or a test is at the other end. "Asserted" is logical: the
// board's wiring hides the voltage, so that polarity bits never invert anything.
// Freestanding; called under the board's lock.
#pragma once

namespace nacre::irq {

class Line {
 public:
  // Idempotent: receivers detect edges themselves.
  virtual void set(bool asserted) = 0;

  void raise() { set(true); }
  void lower() { set(false); }
  void pulse() {
    set(true);
    set(false);
  }

 protected:
  ~Line() = default;
};

}  // namespace nacre::irq
