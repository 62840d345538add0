// Starts a command of a request: its streams or its terminal, its process, and what must be so before it
// runs.
#pragma once

#include "agent/guest/request.hpp"

namespace nacre::agent {

// Our ends; they do not block.
struct Launched {
  int process = 0;  // leads a session and a process group of its own
  int in = -1;
  int out = -1, err = -1;  // at a terminal `out` is `in`, and there is no `err`
  int signals = -1;        // readable when a child has ended (SIGCHLD, which is blocked)
};

// Returns when the command's program has taken over, or cannot.
Failure launch(const CommandRequest& request, Launched& launched);

}  // namespace nacre::agent
