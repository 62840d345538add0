// Descriptors that travel over a Unix socket with some bytes (SCM_RIGHTS). Any thread.
#pragma once

#include <span>
#include <vector>

#include "base/types.hpp"
#include "host/fd.hpp"

namespace nacre::host {

inline constexpr usize kMostPassedFiles = 64;  // with one message

// As send(2), without SIGPIPE; `files` arrive with the first byte. What was sent, or -1 and errno.
ssize_t send_with_files(int socket, std::span<const u8> bytes, std::span<const UniqueFd> files,
                        int flags = 0);
// As recv(2); files that came are appended, closed on exec. What did not fit the room of one message is
// closed.
ssize_t receive_with_files(int socket, std::span<u8> bytes, std::vector<UniqueFd>& files, int flags = 0);

}  // namespace nacre::host
