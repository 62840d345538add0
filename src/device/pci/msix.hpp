// MSI-X: a function's table of interrupt messages and its pending bits. PCI Local Bus 3.0, 6.8.2.
// Freestanding; under the board's lock.
#pragma once

#include "base/result.hpp"
#include "irq/message.hpp"

namespace nacre::device::pci {

class MsiX {
 public:
  static constexpr unsigned kMaxVectors = 64;
  static constexpr unsigned kEntryBytes = 16;
  static constexpr u16 kNoVector = 0xffff;

  struct Entry {
    u32 address_low = 0, address_high = 0, data = 0;
    u32 control = 1;  // bit 0: masked
    constexpr bool operator==(const Entry&) const = default;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u16 enabled = 0, masked = 0;  // as in the capability's control register
    u64 pending = 0;
    Entry entries[kMaxVectors];
    constexpr bool operator==(const State&) const = default;
  };

  // `vectors` is 1 to kMaxVectors.
  MsiX(irq::MessageSink& sink, unsigned vectors);

  void reset();
  [[nodiscard]] unsigned vectors() const { return vectors_; }
  // The table (16 bytes a vector) and the pending bits, by any access that stays in 8 bytes.
  [[nodiscard]] u64 read_table(u64 offset, unsigned size) const;
  void write_table(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u64 read_pending(u64 offset, unsigned size) const;
  void control(bool enabled, bool masked);

  // Sends a vector's message, or notes it where it is masked. A vector that does not exist sends nothing.
  void fire(u16 vector);

  [[nodiscard]] const State& state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] bool is_masked(unsigned vector) const {
    return state_.masked != 0 || (state_.entries[vector].control & 1) != 0;
  }
  void send(unsigned vector);
  void send_pending();

  irq::MessageSink& sink_;
  unsigned vectors_;
  State state_;
};

}  // namespace nacre::device::pci
