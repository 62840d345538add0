// Open files.
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "share/server.hpp"

namespace nacre::share {
namespace {

constexpr usize kMostCopied = 16 * 1024 * 1024;  // at once: others wait meanwhile
constexpr i64 kSettled = 50'000'000;             // ns: file times may be as coarse as a timer's tick

}  // namespace

// What is left of the guest's flags. Appending is done by each write; direct access is between guest and its
// cache.
int Server::open_flags(u32 guests) const {
  constexpr u32 kKept = O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC;
  return static_cast<int>(guests & kKept);
}

// A file that is as it was when last opened need not be read again.
u32 Server::cache_flags(Inode& inode, int file) {
  struct stat status = {};
  timespec now = {};
  if (fstat(file, &status) != 0 || clock_gettime(CLOCK_REALTIME, &now) != 0) return 0;
  const timespec& changed = status.st_ctim;
  Inode::Stamp stamp = {changed.tv_sec, changed.tv_nsec, status.st_size};
  const bool same = stamp == inode.stamp;
  // One that has changed this very moment may change again with the same time.
  const bool settled =
      (now.tv_sec - changed.tv_sec) * 1'000'000'000 + (now.tv_nsec - changed.tv_nsec) > kSettled;
  inode.stamp = settled ? stamp : Inode::Stamp{};
  return same ? FOPEN_KEEP_CACHE : 0;
}

Server::Done Server::open(Inode& inode) {
  fuse_open_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  if (inode.type == S_IFDIR) return error(EISDIR);
  const int flags = open_flags(wanted.flags);
  if (options_.read_only && ((flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC) != 0)) return error(EROFS);
  if (handles_.is_full()) return error(ENFILE);
  auto file = open_inode(inode, flags);
  if (!file) return error(file.error());
  fuse_open_out out = {};
  out.open_flags = cache_flags(inode, file->number());
  out.fh = handles_.add(inode, file.take(), false);
  if (call_.room() < sizeof out) handles_.remove(out.fh, inode);
  return answer(out);
}

Server::Done Server::read(Inode& inode) {
  fuse_read_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr || handle->is_folder) return error(EBADF);
  call_.space(wanted.size, pieces_);
  if (pieces_.empty()) return fine();
  const ssize_t got = preadv(handle->file.number(), pieces_.data(), static_cast<int>(pieces_.size()),
                             static_cast<off_t>(wanted.offset));
  return got < 0 ? error(errno) : Done{0, call_.succeed(static_cast<usize>(got))};
}

Server::Done Server::write(Inode& inode) {
  fuse_write_in wanted = {};
  if (!call_.take(wanted) || !call_.data(wanted.size, pieces_)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr || handle->is_folder) return error(EBADF);
  if (call_.room() < sizeof(fuse_write_out)) return error(EIO);
  // To the end as it is now, which the host may have moved; but not what comes from a mapping.
  const bool appends = (wanted.flags & O_APPEND) != 0 && (wanted.write_flags & FUSE_WRITE_CACHE) == 0;
  const ssize_t put = pieces_.empty()
                          ? 0
                          : pwritev2(handle->file.number(), pieces_.data(), static_cast<int>(pieces_.size()),
                                     static_cast<off_t>(wanted.offset), appends ? RWF_APPEND : 0);
  return put < 0 ? error(errno) : answer(fuse_write_out{static_cast<u32>(put), 0});
}

// Nothing is kept back here: the guest's kernel need not ask again.
Server::Done Server::flush(Inode&) {
  return error(ENOSYS);
}

Server::Done Server::release(Inode& inode) {
  fuse_release_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  if (handles_.find(wanted.fh, inode) == nullptr) return error(EBADF);
  handles_.remove(wanted.fh, inode);
  return fine();
}

Server::Done Server::fsync(Inode& inode) {
  fuse_fsync_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr) return error(EBADF);
  const int file = handle->file.number();
  const int failed = (wanted.fsync_flags & FUSE_FSYNC_FDATASYNC) != 0 ? fdatasync(file) : ::fsync(file);
  return failed == 0 ? fine() : error(errno);
}

Server::Done Server::fallocate(Inode& inode) {
  fuse_fallocate_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr || handle->is_folder) return error(EBADF);
  constexpr u32 kModes = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
  if ((wanted.mode & ~kModes) != 0) return error(EOPNOTSUPP);
  const int failed = ::fallocate(handle->file.number(), static_cast<int>(wanted.mode),
                                 static_cast<off_t>(wanted.offset), static_cast<off_t>(wanted.length));
  return failed == 0 ? fine() : error(errno);
}

Server::Done Server::lseek(Inode& inode) {
  fuse_lseek_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr || handle->is_folder) return error(EBADF);
  if (wanted.whence != SEEK_DATA && wanted.whence != SEEK_HOLE) return error(EINVAL);
  const off_t found =
      ::lseek(handle->file.number(), static_cast<off_t>(wanted.offset), static_cast<int>(wanted.whence));
  return found < 0 ? error(errno) : answer(fuse_lseek_out{static_cast<u64>(found)});
}

Server::Done Server::copy_file_range(Inode& inode) {
  fuse_copy_file_range_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Inode* target = inodes_.find(wanted.nodeid_out);
  if (target == nullptr) return error(ESTALE);
  Handle* from = handles_.find(wanted.fh_in, inode);
  Handle* to = handles_.find(wanted.fh_out, *target);
  if (from == nullptr || to == nullptr || from->is_folder || to->is_folder) return error(EBADF);
  if (wanted.flags != 0) return error(EINVAL);
  auto in = static_cast<off64_t>(wanted.off_in);
  auto out = static_cast<off64_t>(wanted.off_out);
  const ssize_t copied = ::copy_file_range(from->file.number(), &in, to->file.number(), &out,
                                           static_cast<usize>(std::min<u64>(wanted.len, kMostCopied)), 0);
  return copied < 0 ? error(errno) : answer(fuse_write_out{static_cast<u32>(copied), 0});
}

}  // namespace nacre::share
