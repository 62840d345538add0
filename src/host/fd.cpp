#include "host/fd.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "host/error.hpp"

namespace nacre::host {

Result<UniqueFd> open_for_reading(const char* path) {
  UniqueFd file(open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return errno_error("Cannot open", path);
  struct stat status = {};
  if (fstat(file.number(), &status) == 0 && S_ISDIR(status.st_mode)) {
    return error_with_number(EISDIR, "Cannot read", path);
  }
  return file;
}

Result<UniqueFd> open_for_writing(const char* path) {
  UniqueFd file(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!file) return errno_error("Cannot write", path);
  return file;
}

usize reserve_descriptors(usize wanted) {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return wanted;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = std::max(before, std::min(before + wanted, limit.rlim_max));
  const usize gained = setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur - before : 0;
  return std::min<usize>(wanted, gained + before / 4);
}

bool write_all(int file, std::span<const u8> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(file, bytes.data(), bytes.size());
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<usize>(written));
    } else if (errno == EAGAIN) {
      pollfd entry = {file, POLLOUT, 0};
      poll(&entry, 1, -1);
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

}  // namespace nacre::host
