// The I/O APIC: 24 pins, each turned into a Message by its redirection entry. 82093AA data sheet with
// the EOI register of version 20h. Freestanding; all calls under the board's lock.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "irq/ioapic/registers.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

class Ioapic final : public EoiSink {
 public:
  static constexpr unsigned kPins = 24;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 select = 0;
    u32 id = 0;     // 0..15
    u32 level = 0;  // one bit a pin: asserted
    u64 redirection[kPins] = {};
    constexpr bool operator==(const State&) const = default;
  };

  Ioapic(MessageSink& bus, u8 id) : bus_(bus), initial_id_(id & 0xf) { reset(); }

  // Power-on state: everything masked. Wires keep their level.
  void reset();
  // The wire of pin 0..23. Edges on a masked pin are lost, as the data sheet says.
  void set_pin(unsigned pin, bool asserted);
  // From local APICs: a level-triggered interrupt with this vector is over.
  void end_of_interrupt(u8 vector) override;

  // The memory window; registers are 32 bits wide, other sizes read and write their low part.
  u64 read(u64 offset, unsigned size);
  void write(u64 offset, unsigned size, u64 value);

  // Tells the bus again what it expects: others may have the local APICs now.
  void announce_all() {
    for (unsigned pin = 0; pin < kPins; ++pin) announce(pin);
  }
  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] u32 read_selected() const;
  void write_selected(u32 value);
  void deliver(unsigned pin);
  void announce(unsigned pin);
  void deliver_if_level_pending(unsigned pin);

  MessageSink& bus_;
  u8 initial_id_;
  State state_;
};

}  // namespace nacre::irq
