// The reset control register at port cf9h. Intel ICH data sheets, "RST_CNT": a reset happens when bit 2
// goes from 0 to 1. Freestanding; all calls under the board's lock.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "device/ports.hpp"

namespace nacre::device {

class ResetPort {
 public:
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 control = 0;
    constexpr bool operator==(const State&) const = default;
  };
  static constexpr u8 kFullReset = 1 << 3, kResetCpu = 1 << 2, kSystemReset = 1 << 1;

  explicit ResetPort(PowerSink& power) : power_(power) {}

  void reset() { state_ = State{}; }
  [[nodiscard]] u8 read() const { return static_cast<u8>(state_.control); }
  void write(u8 value);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  PowerSink& power_;
  State state_;
};

}  // namespace nacre::device
