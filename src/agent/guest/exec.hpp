// A command in the guest for one connection. The calling process is the connection's own; returns when all is
// said.
#pragma once

#include "agent/wire.hpp"

namespace nacre::agent {

// The wire has just received the Exec frame.
void run_command(Wire& wire);

}  // namespace nacre::agent
