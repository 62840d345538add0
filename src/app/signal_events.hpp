// SignalEvents: SIGINT, SIGTERM, SIGHUP, SIGQUIT and SIGWINCH as a descriptor for the I/O loop. Made before
// any other thread, as threads inherit the mask.
#pragma once

#include <signal.h>

#include "base/result.hpp"
#include "host/fd.hpp"

namespace nacre::app {

class SignalEvents {
 public:
  static Result<SignalEvents> create();
  [[nodiscard]] int descriptor() const { return file_.number(); }
  // The next signal, or 0.
  [[nodiscard]] int next() const;

 private:
  explicit SignalEvents(host::UniqueFd file) : file_(std::move(file)) {}
  host::UniqueFd file_;
};

// Ends the process by `signal`, as if it had never been caught.
[[noreturn]] void die_by(int signal);

}  // namespace nacre::app
