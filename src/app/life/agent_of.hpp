// The agent in the guest of a named machine.
#pragma once

#include <string>

#include "agent/client.hpp"
#include "base/result.hpp"

namespace nacre::app {

// How long a machine that was started may take until its agent answers, in seconds: on a busy host.
inline constexpr i64 kStarting = 60;

// Waits `wait` seconds for it; less than 0: until the machine was started kStarting seconds ago.
Result<agent::Client> agent_of(const std::string& machine, double wait);

}  // namespace nacre::app
