#include "host/file_bytes.hpp"

#include <sys/stat.h>

#include <cerrno>

#include "host/error.hpp"
#include "host/fd.hpp"

namespace nacre::host {
namespace {

Error too_large(const char* path, const char* what, u64 most, const char* limit, const char* advice) {
  return Error("The ")
      .append(what)
      .append(" ")
      .append(path)
      .append(" is larger than ")
      .append(limit)
      .append(" (")
      .append_number(most / kMiB)
      .append(" MiB)")
      .append(advice)
      .append(".");
}

}  // namespace

// Read, not mapped: a mapped file that somebody shortens meanwhile is a SIGBUS in the middle of a copy.
Result<FileBytes> FileBytes::read(const char* path, const char* what, u64 most, const char* limit,
                                  const char* advice) {
  const auto file = TRY(open_for_reading(path));
  struct stat status = {};
  if (fstat(file.number(), &status) != 0) return errno_error("Cannot read", path);
  if (S_ISREG(status.st_mode) && static_cast<u64>(status.st_size) > most)
    return too_large(path, what, most, limit, advice);

  FileBytes result;
  const usize chunk = S_ISREG(status.st_mode) ? static_cast<usize>(status.st_size) + 1 : 64 * kKiB;
  auto buffer = TRY(Mapping::anonymous(chunk));
  usize length = 0;
  for (;;) {
    if (length == buffer.size()) {
      auto larger = TRY(Mapping::anonymous(2 * buffer.size()));
      __builtin_memcpy(larger.data(), buffer.data(), length);
      buffer = std::move(larger);
    }
    const ssize_t got = ::read(file.number(), buffer.data() + length, buffer.size() - length);
    if (got == 0) break;
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_error("Cannot read", path);
    length += static_cast<usize>(got);
    if (length > most) return too_large(path, what, most, limit, advice);
  }
  result.mapping_ = std::move(buffer);
  result.length_ = length;
  return result;
}

}  // namespace nacre::host
