// Broker: a small process beside the virtual machine's. It connects to the Unix sockets PATH_PORT for a guest
// that asks for port PORT of the host, and removes PATH when the virtual machine's process ends, however it
// ends.
//
// Why a process: a system call filter cannot see which socket connect(2) goes to, so a thread that may
// connect may connect to any socket of the user's. This one gets a number and nothing else from the confined
// side, and has a filter of its own. Made while there is one thread; then on the thread that runs the
// device's queues.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "base/result.hpp"
#include "vsock/connector.hpp"
#include "vsock/listener.hpp"

namespace nacre::vsock {

class Broker final : public Connector {
 public:
  // Takes over the file that `listener` has made at `path`.
  static Result<std::unique_ptr<Broker>> start(const std::string& path, const Listener& listener);
  Broker(const Broker&) = delete;
  Broker& operator=(const Broker&) = delete;
  // Returns when the file is gone.
  ~Broker() override;

  [[nodiscard]] bool ask(u32 port) override;
  [[nodiscard]] bool answer(host::UniqueFd& socket) override;
  [[nodiscard]] int descriptor() const override { return channel_.number(); }

 private:
  Broker(host::UniqueFd channel, pid_t process) : channel_(std::move(channel)), process_(process) {}

  host::UniqueFd channel_;
  pid_t process_;
};

}  // namespace nacre::vsock
