#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/fs.h>

#include <cerrno>
#include <climits>

#include "host/error.hpp"
#include "storage/block_file.hpp"
#include "storage/buffers.hpp"
#include "storage/image_lock.hpp"

namespace nacre::storage {
namespace {

constexpr u64 kMostAtOnce = 2 * kMiB;
constexpr std::chrono::microseconds kSlow(500), kSlowPerMiB(1000);
constexpr std::chrono::milliseconds kPatience(100);

}  // namespace

Result<std::unique_ptr<HostFile>> HostFile::open(Loop& loop, const std::string& path, Access access,
                                                 Locking locking) {
  const int mode = access == Access::ReadWrite ? O_RDWR : O_RDONLY;
  host::UniqueFd file(::open(path.c_str(), mode | O_CLOEXEC | O_NONBLOCK));
  if (!file) return host::errno_error("Cannot open the image", path.c_str());
  std::unique_ptr<HostFile> result(new HostFile(loop, std::move(file)));
  TRY(result->adopt(path, access, locking));
  return result;
}

Result<std::unique_ptr<HostFile>> HostFile::from(Loop& loop, host::UniqueFd file, const std::string& path,
                                                 Access access) {
  std::unique_ptr<HostFile> result(new HostFile(loop, std::move(file)));
  TRY(result->adopt(path, access, Locking::Unlocked));
  return result;
}

Result<host::UniqueFd> HostFile::duplicate(const std::string& path) const {
  host::UniqueFd copy(fcntl(file_.number(), F_DUPFD_CLOEXEC, 0));
  if (!copy) return host::errno_error("Cannot keep open the image", path.c_str());
  return copy;
}

Result<std::unique_ptr<HostFile>> HostFile::create(Loop& loop, const std::string& path) {
  host::UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  if (!file) return host::errno_error("Cannot create the image", path.c_str());
  std::unique_ptr<HostFile> result(new HostFile(loop, std::move(file)));
  TRY(result->adopt(path, Access::ReadWrite, Locking::Locked));
  return result;
}

Status HostFile::adopt(const std::string& path, Access access, Locking locking) {
  struct stat status = {};
  // Not the library's, which asks by way of a path: a device's thread may not (host/confine.cpp).
  if (syscall(SYS_fstat, file_.number(), &status) != 0) return host::errno_error("Cannot look at the image", path.c_str());
  if (S_ISDIR(status.st_mode)) return host::error_with_number(EISDIR, "Cannot open the image", path.c_str());
  is_regular_ = S_ISREG(status.st_mode);
  if (!is_regular_ && !S_ISBLK(status.st_mode))
    return Error("The image ").append(path.c_str()).append(" is neither a file nor a block device.");
  identity_ = {status.st_dev, status.st_ino};
  if (is_regular_) {
    size_ = static_cast<u64>(status.st_size);
  } else {
    const off_t end = lseek(file_.number(), 0, SEEK_END);
    if (end < 0) return host::errno_error("Cannot find the size of", path.c_str());
    size_ = static_cast<u64>(end);
  }
  if (locking == Locking::Locked) TRY(lock_image(file_.number(), path, access));
  return {};
}

// What is in the page cache is copied at once: cheaper than any queue.
bool HostFile::read_cached(Request& request) const {
  if (request.buffers.size() > IOV_MAX) return false;
  const ssize_t got =
      preadv2(file_.number(), request.buffers.data(), static_cast<int>(request.buffers.size()),
              static_cast<off_t>(request.offset), RWF_NOWAIT);
  return got >= 0 && static_cast<u64>(got) == request.length;
}

// A write to the page cache takes less than handing it to anybody, also a large one: the kernel holds the
// inode while it copies, so writes to one file come one after another whoever makes them. But it may block,
// while the host writes back or looks for room; so the time is taken, and after a slow one the loop has all
// writes for a while.
bool HostFile::write_cached(Request& request) {
  if (request.length > kMostAtOnce) return false;
  const auto began = std::chrono::steady_clock::now();
  if (began < patient_until_) return false;
  request.error = perform(file_.number(), request);
  const auto ended = std::chrono::steady_clock::now();
  if (ended - began > kSlow + kSlowPerMiB * request.length / kMiB) patient_until_ = ended + kPatience;
  return true;
}

bool HostFile::submit(Request& request) {
  request.error = 0;
  if (request.length == 0 && request.kind != Request::Kind::Flush) return true;
  switch (request.kind) {
    case Request::Kind::Read:
      if (request.offset >= size_) {
        fill_zero(request.buffers, 0, request.length);
        return true;
      }
      if (read_cached(request)) return true;
      break;
    case Request::Kind::Write:
      size_ = std::max(size_, request.offset + request.length);
      if (write_cached(request)) return true;
      break;
    case Request::Kind::Flush:
      break;
    case Request::Kind::Discard:
    case Request::Kind::WriteZeroes:
      if (request.offset >= size_) return true;
      break;
  }
  loop_.start(file_.number(), request);
  return false;
}

int HostFile::resize(u64 bytes) {
  if (!is_regular_) return bytes <= size_ ? 0 : ENOSPC;
  if (ftruncate(file_.number(), static_cast<off_t>(bytes)) != 0) return errno;
  size_ = bytes;
  return 0;
}

BlockFile::Extent HostFile::extent_at(u64 offset) const {
  if (offset >= size_) return {offset + 1, true};
  const off_t data = lseek(file_.number(), static_cast<off_t>(offset), SEEK_DATA);
  if (data < 0) return errno == ENXIO ? Extent{size_, true} : Extent{size_, false};
  if (static_cast<u64>(data) > offset) return {std::min(static_cast<u64>(data), size_), true};
  const off_t hole = lseek(file_.number(), static_cast<off_t>(offset), SEEK_HOLE);
  return {hole < 0 ? size_ : std::min(static_cast<u64>(hole), size_), false};
}

u64 HostFile::allocated_bytes() const {
  struct stat status = {};
  return fstat(file_.number(), &status) == 0 ? static_cast<u64>(status.st_blocks) * 512 : 0;
}

namespace {

struct Now final : Request {
  bool is_complete = false;
  void completed() override { is_complete = true; }
};

int run_now(BlockFile& file, Request::Kind kind, u64 offset, u64 length, Buffers buffers) {
  Now request;
  request.kind = kind;
  request.offset = offset;
  request.length = length;
  request.buffers = buffers;
  request.is_complete = file.submit(request);
  while (!request.is_complete) file.wait();
  return request.error;
}

}  // namespace

int read_now(BlockFile& file, u64 offset, std::span<u8> bytes) {
  const iovec piece = piece_of(bytes);
  return run_now(file, Request::Kind::Read, offset, bytes.size(), {&piece, 1});
}

int write_now(BlockFile& file, u64 offset, std::span<const u8> bytes) {
  const iovec piece = piece_of_constant(bytes);
  return run_now(file, Request::Kind::Write, offset, bytes.size(), {&piece, 1});
}

int flush_now(BlockFile& file) {
  return run_now(file, Request::Kind::Flush, 0, 0, {});
}

int zero_now(BlockFile& file, u64 offset, u64 length) {
  return run_now(file, Request::Kind::WriteZeroes, offset, length, {});
}

}  // namespace nacre::storage
