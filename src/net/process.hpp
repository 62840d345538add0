// A network in a process of its own, for a machine that is confined already and so can neither open a network
// nor have a thread that may do what one needs: nacre attach starts it, the machine is given the end of a
// cable (net/cable.hpp). It has the rights of whoever starts it, and under its system call filter those of
// the thread that a network has in a machine's process. It outlives who starts it, and ends when nobody has
// the other end any more.
#pragma once

#include "host/fd.hpp"
#include "net/options.hpp"

namespace nacre::net {

// While there is one thread. Returns the machine's end when the network is there, with its ports bound; an
// Error says why it is not. What the network has to complain about goes to the file `log`.
Result<host::UniqueFd> start_process(const NetConfig& config, const host::UniqueFd& log);

}  // namespace nacre::net
