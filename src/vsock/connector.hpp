// Connector: who connects to a socket of the host because the guest asks for it. On the thread that runs the
// device's queues.
#pragma once

#include "host/fd.hpp"

namespace nacre::vsock {

class Connector {
 public:
  virtual ~Connector() = default;
  // A guest wants to reach `port`. False: too many wait already.
  [[nodiscard]] virtual bool ask(u32 port) = 0;
  // The next answer, in the order of asking; false: none yet. An empty socket: nobody listens there.
  [[nodiscard]] virtual bool answer(host::UniqueFd& socket) = 0;
  // Readable while there are answers.
  [[nodiscard]] virtual int descriptor() const = 0;
};

}  // namespace nacre::vsock
