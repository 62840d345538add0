#include "host/mapping.hpp"

#include "host/error.hpp"

namespace nacre::host {

Result<Mapping> Mapping::anonymous(usize bytes, Guard guard) {
  const usize skipped = guard == Guard::Below ? kPageSize : 0;
  const usize total = (bytes + skipped + kPageSize - 1) & ~(kPageSize - 1);
  void* start =
      mmap(nullptr, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) return errno_error("Cannot reserve memory");
  Mapping mapping(static_cast<u8*>(start), total, skipped);
  if (skipped != 0 && mprotect(start, skipped, PROT_NONE) != 0)
    return errno_error("Cannot protect a guard page");
  return mapping;
}

Result<Mapping> Mapping::shared_file(int file, usize bytes, int protection, usize offset) {
  void* start = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, file, static_cast<off_t>(offset));
  if (start == MAP_FAILED) return errno_error("Cannot map memory");
  return Mapping(static_cast<u8*>(start), bytes, 0);
}

}  // namespace nacre::host
