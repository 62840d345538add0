// ACPI fixed hardware: PM1a event and control blocks, power button, and the 3.579545 MHz timer.
// ACPI 6.4, 4.8.3. There is no SMI command port: the machine is always in ACPI mode (FADT SMI_CMD = 0,
// SCI_EN reads 1), and the timer is 32 bits wide (FADT TMR_VAL_EXT).
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/types.hpp"
#include "device/ports.hpp"
#include "irq/line.hpp"

namespace nacre::device {

class AcpiPm {
 public:
  static constexpr u64 kTimerHz = 3'579'545;
  // Offsets of the FADT's blocks in this device's port window.
  static constexpr u16 kEventBlock = 0, kControlBlock = 4, kTimerBlock = 8, kPorts = 12;
  static constexpr u8 kSleepTypeS5 = 5;  // for the DSDT's \_S5 package

  // PM1 status and enable. ACPI 6.4, 4.8.3.1.
  static constexpr u16 TMR = 1 << 0, GBL = 1 << 5, PWRBTN = 1 << 8, SLPBTN = 1 << 9, RTC = 1 << 10,
                       WAK = 1 << 15;
  // PM1 control. ACPI 6.4, 4.8.3.2.
  static constexpr u16 SCI_EN = 1 << 0, BM_RLD = 1 << 1, SLP_TYP = 7 << 10, SLP_EN = 1 << 13;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u16 status = 0, enable = 0, control = SCI_EN;
    u16 spare[3] = {};
    u64 timer_seen = 0;  // half periods of the timer already turned into TMR status
    constexpr bool operator==(const State&) const = default;
  };

  AcpiPm(time::Clock& clock, irq::Line& sci, PowerSink& power) : clock_(clock), sci_(sci), power_(power) {
    reset();
  }

  void reset();
  // size 1, 2 or 4 at any offset below kPorts; bytes past a register's end read 0.
  u32 read(u16 offset, unsigned size);
  void write(u16 offset, unsigned size, u32 value);
  void press_power_button();

  [[nodiscard]] u64 next_deadline()
      const;  // ns; when the timer's top bit changes and the guest asked to hear
  void advance(u64 now_ns);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] u8 read_byte(u16 offset) const;
  void write_control(u16 value);
  void collect_timer();
  void update_sci();

  time::Clock& clock_;
  irq::Line& sci_;
  PowerSink& power_;
  State state_;
};

}  // namespace nacre::device
