#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "storage/buffers.hpp"
#include "storage/loop.hpp"

namespace nacre::storage {
namespace {

constexpr usize kMostPieces = IOV_MAX;

int transfer(int file, const Request& request, u64 done) {
  const bool writes = request.kind == Request::Kind::Write;
  while (done < request.length) {
    const auto rest = slice(request.buffers, done, request.length - done);
    const int pieces = static_cast<int>(std::min(rest.size(), kMostPieces));
    const auto offset = static_cast<off_t>(request.offset + done);
    const ssize_t moved =
        writes ? pwritev(file, rest.data(), pieces, offset) : preadv(file, rest.data(), pieces, offset);
    if (moved > 0) {
      done += static_cast<u64>(moved);
    } else if (moved == 0) {
      if (writes) return ENOSPC;
      fill_zero(request.buffers, done, request.length - done);
      return 0;
    } else if (errno != EINTR && errno != EAGAIN) {
      return errno;
    }
  }
  return 0;
}

int write_zeroes(int file, u64 offset, u64 length) {
  static constexpr std::array<u8, 64 * kKiB> zeros = {};
  while (length > 0) {
    const ssize_t written =
        pwrite(file, zeros.data(), std::min<u64>(length, zeros.size()), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return written < 0 ? errno : ENOSPC;
    offset += static_cast<u64>(written);
    length -= static_cast<u64>(written);
  }
  return 0;
}

int allocate(int file, int mode, const Request& request) {
  int result = 0;
  do {
    result = fallocate(file, mode, static_cast<off_t>(request.offset), static_cast<off_t>(request.length));
  } while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

bool is_unsupported(int error) {
  return error == EOPNOTSUPP || error == ENODEV || error == ENOSYS || error == EINVAL;
}

}  // namespace

int perform(int file, const Request& request, u64 done) {
  switch (request.kind) {
    case Request::Kind::Read:
    case Request::Kind::Write:
      return transfer(file, request, done);
    case Request::Kind::Flush:
      return fdatasync(file) == 0 ? 0 : errno;
    case Request::Kind::Discard: {
      const int error = allocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request);
      return is_unsupported(error) ? 0 : error;
    }
    case Request::Kind::WriteZeroes: {
      const bool release = request.space == Request::Space::Release;
      const int error = allocate(
          file, release ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE : FALLOC_FL_ZERO_RANGE, request);
      return is_unsupported(error) ? write_zeroes(file, request.offset, request.length) : error;
    }
  }
  return EINVAL;
}

}  // namespace nacre::storage
