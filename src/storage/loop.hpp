// Loop: carries out operations on host files for one I/O thread, by io_uring where the kernel allows it and
// by a few threads where it does not (containers often forbid io_uring, so it is tried, not assumed).
//
// Recommended use on the I/O thread: submit requests; dispatch(); sleep until event_fd() is readable;
// dispatch(). Tools that do one thing after another call wait() instead of sleeping.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "storage/request.hpp"

namespace nacre::storage {

class Loop {
 public:
  enum class Kind : u8 { Best, IoUring, Threads };
  static Result<std::unique_ptr<Loop>> create(Kind kind = Kind::Best);

  virtual ~Loop() = default;  // nothing may be under way
  // Starts request on a file descriptor; completed() follows from dispatch() or wait().
  virtual void start(int file, Request& request) = 0;
  // Hands over to the kernel what start() has queued, and completes what is done. Does not block.
  virtual void dispatch() = 0;
  // As dispatch(), but blocks until something completes. Something must be under way.
  virtual void wait() = 0;
  // Readable while dispatch() has completions to deliver.
  [[nodiscard]] virtual int event_fd() const = 0;
  [[nodiscard]] virtual const char* name() const = 0;  // "io_uring", "threads"
};

// Carries out request on a file descriptor now, blocking; the errno or 0. Reading past the end gives zeros.
// `done`: bytes of a Read or Write that are through already. Any thread.
int perform(int file, const Request& request, u64 done = 0);

}  // namespace nacre::storage
