// Port: a network as a virtio network device and the thread that runs it see it. Made before the thread is
// confined; everything else on that thread.
#pragma once

#include "host/confine.hpp"
#include "host/events.hpp"
#include "virtio/net/device.hpp"

namespace nacre::net {

class Port : public virtio::net::Network, public host::Events {
 public:
  Port() = default;
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  virtual ~Port() = default;

  // What its thread may do.
  [[nodiscard]] virtual host::ThreadRole role() const = 0;
};

}  // namespace nacre::net
