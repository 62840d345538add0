// OutputStream: a descriptor written to without ever blocking the I/O thread, so that time limits and keys
// work while a reader does not read. Owned by the I/O thread.
#pragma once

#include <poll.h>

#include <span>

#include "base/types.hpp"

namespace nacre::app {

class OutputStream {
 public:
  // -1: bytes are thrown away.
  explicit OutputStream(int file) : file_(file) {}

  [[nodiscard]] bool failed() const { return error_ != 0; }
  [[nodiscard]] int error() const { return error_; }
  // A broken pipe is silence, as for any program in a pipeline.
  [[nodiscard]] bool reader_gone() const;

  // Writes what can be written now of `bytes` and returns how much that was. After a failure all is thrown
  // away.
  usize write_some(std::span<const u8> bytes);
  // For poll(2) while something could not be written.
  [[nodiscard]] pollfd wait_entry() const { return {file_, POLLOUT, 0}; }
  [[nodiscard]] int descriptor() const { return file_; }

 private:
  int file_;
  int error_ = 0;
};

}  // namespace nacre::app
