// The agent in a guest, for nacre exec and nacre cp.
#pragma once

#include <string>

#include "agent/client.hpp"
#include "base/result.hpp"

namespace nacre::app {

// How long a machine that was started may take until its agent answers, in seconds: on a busy host.
inline constexpr i64 kStarting = 60;

// Of a named machine, or of the guest at `socket` if that is not empty. Waits `wait` seconds for it; less than 0 (not told):
// until the machine was started kStarting seconds ago, and for a socket not at all.
Result<agent::Client> agent_of(const std::string& machine, const std::string& socket, double wait);

}  // namespace nacre::app
