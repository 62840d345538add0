#include "app/output_stream.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>

namespace nacre::app {

bool OutputStream::reader_gone() const {
  return error_ == EPIPE;
}

usize OutputStream::write_some(std::span<const u8> bytes) {
  if (file_ < 0 || failed()) return bytes.size();
  usize done = 0;
  while (done < bytes.size()) {
    pollfd entry = wait_entry();
    if (poll(&entry, 1, 0) == 0) break;
    // A pipe that polls as writable takes PIPE_BUF bytes without blocking: pipe(7).
    const ssize_t written = write(file_, bytes.data() + done, std::min<usize>(bytes.size() - done, PIPE_BUF));
    if (written >= 0) {
      done += static_cast<usize>(written);
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      error_ = errno;
      return bytes.size();
    }
  }
  return done;
}

}  // namespace nacre::app
