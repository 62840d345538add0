#include "storage/image_lock.hpp"

#include <fcntl.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "host/error.hpp"

namespace nacre::storage {
namespace {

constexpr u32 kDoing = 100, kForbidding = 200;
constexpr u32 kReading = 0, kWriting = 1, kResizing = 3;

struct flock byte_lock(short type, u32 byte) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool take(int file, u32 byte) {
  struct flock lock = byte_lock(F_RDLCK, byte);
  return fcntl(file, F_OFD_SETLK, &lock) == 0;
}

// Whether somebody else has a lock there.
bool is_taken(int file, u32 byte) {
  struct flock lock = byte_lock(F_WRLCK, byte);
  return fcntl(file, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void let_go(int file) {
  struct flock lock = byte_lock(F_UNLCK, kDoing);
  lock.l_len = kForbidding + 100 - kDoing;
  fcntl(file, F_OFD_SETLK, &lock);
}

enum class Outcome : u8 { Locked, NoLocksHere, Refused };

Outcome try_to_lock(int file, bool writes) {
  bool taken = take(file, kDoing + kReading) && take(file, kForbidding + kWriting) &&
               take(file, kForbidding + kResizing);
  if (writes) taken = taken && take(file, kDoing + kWriting) && take(file, kDoing + kResizing);
  if (!taken && (errno == ENOLCK || errno == EOPNOTSUPP || errno == EINVAL)) return Outcome::NoLocksHere;
  bool refused = !taken || is_taken(file, kForbidding + kReading) || is_taken(file, kDoing + kWriting) ||
                 is_taken(file, kDoing + kResizing);
  if (writes)
    refused = refused || is_taken(file, kForbidding + kWriting) || is_taken(file, kForbidding + kResizing);
  if (!refused) return Outcome::Locked;
  let_go(file);
  return Outcome::Refused;
}

// A process that was killed with io_uring operations under way keeps its files for some milliseconds more,
// and who starts a machine again after a crash should not be told that it runs.
constexpr int kTries = 20;
constexpr std::chrono::milliseconds kBetween(25);

}  // namespace

Status lock_image(int file, const std::string& path, Access access) {
  for (int tries = 1;; ++tries) {
    if (try_to_lock(file, access == Access::ReadWrite) != Outcome::Refused) return {};
    if (tries == kTries) break;
    std::this_thread::sleep_for(kBetween);
  }
  return Error("The image ").append(path.c_str()).append(" is in use by another process; stop that first.");
}

}  // namespace nacre::storage
