// The place in which a share's server runs: user and mount namespaces of its own in which the shared folder
// is the root and there is nothing else, without capabilities. docs/threat-model.md. In the server's process,
// while it has one thread.
#pragma once

#include "base/result.hpp"
#include "host/fd.hpp"

namespace nacre::share {

struct Place {
  host::UniqueFd root;         // the shared folder, O_PATH
  host::UniqueFd descriptors;  // /proc/self/fd
  // False: the host allows no namespaces (a container does, mostly): what keeps the server in the folder is
  // then what it does, and the system call filter.
  bool enclosed = false;
};

// `folder`: open with O_PATH. `privileged`: files' owners are to be kept, which needs root's capabilities for
// it.
Result<Place> enclose(const host::UniqueFd& folder, bool read_only, bool privileged);

// Gives up all capabilities but, when privileged, those for files of any owner.
Status give_up_capabilities(bool privileged);

}  // namespace nacre::share
