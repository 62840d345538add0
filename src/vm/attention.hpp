// Attention: how vCPU threads call the thread that does input and output. Raised any number of times, it
// makes the descriptor readable once. Threads: raise() any; descriptor() and clear() the I/O thread.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>

#include "base/result.hpp"
#include "host/fd.hpp"

namespace nacre::vm {

class Attention {
 public:
  static Result<Attention> create();
  Attention(Attention&& other) noexcept : event_(std::move(other.event_)) {}
  Attention(const Attention&) = delete;
  Attention& operator=(const Attention&) = delete;
  Attention& operator=(Attention&&) = delete;
  ~Attention() = default;

  // General registers only; async-signal-safe.
  void raise() {
    // The exchange also orders what the caller wrote before, against clear() and what follows it.
    if (!raised_.exchange(true)) signal();
  }
  // Poll this for reading; then clear(), then look at everything that could have raised it.
  [[nodiscard]] int descriptor() const { return event_.number(); }
  void clear();

 private:
  explicit Attention(host::UniqueFd event) : event_(std::move(event)) {}
  void signal();

  host::UniqueFd event_;
  std::atomic<bool> raised_ = false;
};

}  // namespace nacre::vm
