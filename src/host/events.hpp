// Events: a part of the program that waits for descriptors which come and go, on a thread that polls for it.
#pragma once

#include <poll.h>

#include <span>
#include <vector>

namespace nacre::host {

class Events {
 public:
  // Before each poll: appends what is waited for. Returns the longest to wait in milliseconds, -1: no limit.
  [[nodiscard]] virtual int wait_for(std::vector<pollfd>& descriptors) = 0;
  // After it: the same descriptors, with what happened to them; also when nothing did.
  virtual void happened(std::span<const pollfd> descriptors) = 0;

 protected:
  ~Events() = default;
};

}  // namespace nacre::host
