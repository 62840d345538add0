#include "device/reset_port/reset_port.hpp"

namespace nacre::device {

void ResetPort::write(u8 value) {
  const bool rises = (value & ~state_.control & kResetCpu) != 0;
  state_.control = value & (kFullReset | kResetCpu | kSystemReset);
  if (rises) power_.reset();
}

Status ResetPort::load(const State& state) {
  if (state.version != State::kVersion) return Error("the reset port's saved state has an unknown version");
  state_ = state;
  state_.control &= kFullReset | kResetCpu | kSystemReset;
  return {};
}

}  // namespace nacre::device
