// Request: one operation on a file or an image, as a device or a layer above hands it down; and Target,
// what takes requests: BlockFile and Image.
//
// A request, its buffers and its target live until it is complete. submit() returns true when it is complete
// at once (then completed() is not called, `error` says how it went), false when completed() will be called
// later, from Loop::dispatch() or Loop::wait(). All on the one thread that drives the loop.
//
// Recommended use by a device:
//   struct DiskRequest final : storage::Request { void completed() override; … };
//   if (image.submit(request)) request.completed();
#pragma once

#include <sys/uio.h>

#include <span>

#include "base/types.hpp"

namespace nacre::storage {

using Buffers = std::span<const iovec>;

class Request {
 public:
  enum class Kind : u8 {
    Read,
    Write,        // acknowledged when it will be read back; durable after a later Flush
    Flush,        // what was acknowledged before the flush was submitted is durable when it completes
    Discard,      // content becomes unimportant; best effort, space is given back
    WriteZeroes,  // reads as zeros afterwards
  };
  // Whether zeroed space may be given back to the host, or should stay allocated.
  enum class Space : u8 { Release, Keep };

  Kind kind = Kind::Read;
  Space space = Space::Release;
  int error = 0;   // errno when complete; 0: success. ENOSPC: the host's disk is full, nothing before is lost
  u64 offset = 0;  // bytes, of any alignment
  u64 length = 0;  // bytes; the sum of `buffers` for Read and Write
  Buffers buffers;  // host memory, for Read and Write

  virtual void completed() = 0;

 protected:
  Request() = default;
  ~Request() = default;
};

class Target {
 public:
  virtual ~Target() = default;
  [[nodiscard]] virtual bool submit(Request& request) = 0;
};

}  // namespace nacre::storage
