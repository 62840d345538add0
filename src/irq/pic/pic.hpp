// The pair of 8259A interrupt controllers of a PC, the second cascaded on IR2 of the first.
// Intel 8259A data sheet (231468-003); ELCR: Intel PIIX/ICH data sheets, ports 4D0h/4D1h.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "irq/line.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

class Pic final : public ExtIntSource {
 public:
  struct Chip {
    u8 irr = 0, imr = 0, isr = 0;
    u8 level = 0;                                    // what the input wires carry now
    u8 elcr = 0;                                     // 1: that input is level-triggered
    u8 vector_base = 0;                              // ICW2, low three bits clear
    u8 lowest = 7;                                   // input of lowest priority; the next one is highest
    u8 icw_expected = 0;                             // 0: initialised; else the next ICW number (2..4)
    u8 icw4_needed = 0, single = 0, level_mode = 0;  // from ICW1: IC4, SNGL, LTIM
    u8 auto_eoi = 0, rotate_on_aeoi = 0, fully_nested = 0;
    u8 special_mask = 0, poll = 0, read_isr = 0;
    u8 spare = 0;
    constexpr bool operator==(const Chip&) const = default;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    Chip chip[2];  // master, slave
    constexpr bool operator==(const State&) const = default;
  };

  // `output` is the master's INT pin: to LINT0 of the local APIC.
  explicit Pic(Line& output) : output_(output) { reset(); }

  void reset();
  // Input wires 0..15; 2 is the cascade and is ignored.
  void set_input(unsigned input, bool asserted);
  [[nodiscard]] bool interrupt_pending() const;
  // INTA: the vector of the highest request, or the spurious one (input 7 of the chip that was asked).
  u8 acknowledge() override;

  // Ports 20h/21h (chip 0) and a0h/a1h (chip 1): offset 0 or 1.
  u8 read(unsigned chip, u16 offset);
  void write(unsigned chip, u16 offset, u8 value);
  // Ports 4d0h/4d1h.
  [[nodiscard]] u8 read_elcr(unsigned chip) const { return state_.chip[chip & 1].elcr; }
  void write_elcr(unsigned chip, u8 value);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  static constexpr unsigned kCascade = 2;

  void write_command(Chip& chip, u8 value);
  void write_data(Chip& chip, u8 value);
  void begin_initialisation(Chip& chip, u8 icw1);
  void operate(Chip& chip, u8 ocw2);
  u8 poll(unsigned index);
  void set_wire(Chip& chip, unsigned input, bool asserted);
  // The input to serve now, or -1.
  [[nodiscard]] int candidate(unsigned index) const;
  void acknowledge_input(Chip& chip, unsigned input);
  void update();

  Line& output_;
  State state_;
};

}  // namespace nacre::irq
