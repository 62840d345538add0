// The Unix socket at which the host's programs reach the guest. Made before the guest runs.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.hpp"
#include "host/fd.hpp"

namespace nacre::vsock {

// A Unix socket's path has room for 107 bytes, and "_4294967295" must fit behind ours.
inline constexpr usize kMostPathBytes = 96;

struct Listener {
  host::UniqueFd socket;  // listens, does not block
  dev_t device = 0;       // of the file, to know it again
  ino_t inode = 0;

  // Makes the file, for nobody but its owner (mode 0600). A file that is there already is an Error, which names the
  // option that `path` came from.
  static Result<Listener> create(const std::string& path, const char* option = "--vsock");
};

// A connection to the Unix socket at `path`. Blocks no longer than the system takes: a full queue is an
// error.
Result<host::UniqueFd> connect_to(const std::string& path);

}  // namespace nacre::vsock
