#include "device/reset_port/reset_port.hpp"

#include <type_traits>

namespace nacre::device {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<ResetPort::State>);

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
