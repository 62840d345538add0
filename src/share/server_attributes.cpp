// What files are said to be: attributes, and extended ones.
#include <fcntl.h>
#include <sys/xattr.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>

#include "share/server.hpp"

namespace nacre::share {
namespace {

constexpr u32 kNobody = 65534;
constexpr u64 kSecondsOfTrust =
    1;  // how long the guest may believe what it was told: the host changes files too
constexpr const char* kUserPrefix = "user.";
constexpr usize kMostValue = 64 * 1024;  // XATTR_SIZE_MAX

bool is_for_users(const char* name) {
  return std::strncmp(name, kUserPrefix, std::strlen(kUserPrefix)) == 0;
}

// The name of a descriptor in /proc/self/fd.
struct Number {
  char text[16];
  explicit Number(int descriptor) { std::snprintf(text, sizeof text, "%d", descriptor); }
};

timespec time_of(u32 valid, u32 given, u32 now, u64 seconds, u32 nanoseconds) {
  if ((valid & now) != 0) return {0, UTIME_NOW};
  if ((valid & given) == 0) return {0, UTIME_OMIT};
  // Not one of the values that mean something else.
  return {static_cast<time_t>(seconds), nanoseconds < 1'000'000'000 ? static_cast<long>(nanoseconds) : 0};
}

}  // namespace

fuse_attr Server::attributes(const Inode& inode, const struct stat& status) const {
  fuse_attr attr = {};
  // Numbers of other file systems below the shared folder are told apart from its own.
  attr.ino = status.st_ino ^ (u64{inode.device_index} << 48);
  attr.size = static_cast<u64>(status.st_size);
  attr.blocks = static_cast<u64>(status.st_blocks);
  attr.atime = static_cast<u64>(status.st_atim.tv_sec);
  attr.mtime = static_cast<u64>(status.st_mtim.tv_sec);
  attr.ctime = static_cast<u64>(status.st_ctim.tv_sec);
  attr.atimensec = static_cast<u32>(status.st_atim.tv_nsec);
  attr.mtimensec = static_cast<u32>(status.st_mtim.tv_nsec);
  attr.ctimensec = static_cast<u32>(status.st_ctim.tv_nsec);
  attr.mode = status.st_mode;
  attr.nlink = static_cast<u32>(status.st_nlink);
  attr.blksize = static_cast<u32>(status.st_blksize);
  if (options_.keeps_owners) {
    attr.uid = status.st_uid;
    attr.gid = status.st_gid;
  } else {
    attr.uid = status.st_uid == options_.host_user ? options_.user : kNobody;
    attr.gid = status.st_gid == options_.host_group ? options_.group : kNobody;
  }
  // The host's devices have no business in the guest: their nodes lead nowhere there.
  if (!S_ISCHR(status.st_mode) && !S_ISBLK(status.st_mode)) return attr;
  attr.rdev = 0;
  return attr;
}

Server::Done Server::getattr(Inode& inode) {
  fuse_getattr_in asked = {};
  if (!call_.take(asked)) return error(EINVAL);
  struct stat status = {};
  int failed = 0;
  Handle* handle = (asked.getattr_flags & FUSE_GETATTR_FH) != 0 ? handles_.find(asked.fh, inode) : nullptr;
  if (handle != nullptr) {
    failed = fstat(handle->file.number(), &status) == 0 ? 0 : errno;
  } else {
    failed = inodes_.status(inode, status);
  }
  if (failed != 0) return error(failed);
  fuse_attr_out out = {};
  out.attr_valid = kSecondsOfTrust;
  out.attr = attributes(inode, status);
  return answer(out);
}

Server::Done Server::setattr(Inode& inode) {
  fuse_setattr_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  int failed = 0;
  if ((wanted.valid & FATTR_MODE) != 0) failed = set_mode(inode, wanted.mode);
  if (failed == 0 && (wanted.valid & (FATTR_UID | FATTR_GID)) != 0) failed = set_owner(inode, wanted);
  if (failed == 0 && (wanted.valid & FATTR_SIZE) != 0) failed = set_size(inode, wanted);
  if (failed == 0 && (wanted.valid & (FATTR_ATIME | FATTR_MTIME)) != 0) failed = set_times(inode, wanted);
  if (failed != 0) return error(failed);
  struct stat status = {};
  if (failed = inodes_.status(inode, status); failed != 0) return error(failed);
  fuse_attr_out out = {};
  out.attr_valid = kSecondsOfTrust;
  out.attr = attributes(inode, status);
  return answer(out);
}

// A program of the host's that a guest makes run as another user would be a way out: no set-user-ID, no
// set-group-ID.
int Server::set_mode(Inode& inode, u32 mode) {
  if (inode.type == S_IFLNK) return EOPNOTSUPP;
  const int descriptor = inodes_.descriptor(inode);
  if (descriptor < 0) return -descriptor;
  mode &= S_ISDIR(inode.type) ? 07777 & ~S_ISUID : 01777;
  return fchmodat(descriptors_.number(), Number(descriptor).text, mode, 0) == 0 ? 0 : errno;
}

int Server::set_owner(Inode& inode, const fuse_setattr_in& wanted) {
  if (!options_.keeps_owners) return 0;
  const int descriptor = inodes_.descriptor(inode);
  if (descriptor < 0) return -descriptor;
  const uid_t user = (wanted.valid & FATTR_UID) != 0 ? wanted.uid : ~uid_t{0};
  const gid_t group = (wanted.valid & FATTR_GID) != 0 ? wanted.gid : ~gid_t{0};
  return fchownat(descriptor, "", user, group, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

int Server::set_size(Inode& inode, const fuse_setattr_in& wanted) {
  if (inode.type != S_IFREG) return EINVAL;
  const auto size = static_cast<off_t>(wanted.size);
  Handle* handle = (wanted.valid & FATTR_FH) != 0 ? handles_.find(wanted.fh, inode) : nullptr;
  if (handle != nullptr) return ftruncate(handle->file.number(), size) == 0 ? 0 : errno;
  auto file = open_inode(inode, O_WRONLY);
  if (!file) return file.error();
  return ftruncate(file->number(), size) == 0 ? 0 : errno;
}

int Server::set_times(Inode& inode, const fuse_setattr_in& wanted) {
  const int descriptor = inodes_.descriptor(inode);
  if (descriptor < 0) return -descriptor;
  const timespec times[2] = {
      time_of(wanted.valid, FATTR_ATIME, FATTR_ATIME_NOW, wanted.atime, wanted.atimensec),
      time_of(wanted.valid, FATTR_MTIME, FATTR_MTIME_NOW, wanted.mtime, wanted.mtimensec)};
  return utimensat(descriptor, "", times, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

// What was just made in `folder` is the guest's user's, where owners are kept.
int Server::own(int folder, const char* name) const {
  if (!options_.keeps_owners) return 0;
  struct stat status = {};
  const bool inherits = fstat(folder, &status) == 0 && (status.st_mode & S_ISGID) != 0;
  const gid_t group = inherits ? ~gid_t{0} : call_.header().gid;
  return fchownat(folder, name, call_.header().uid, group, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

// --- extended attributes: those for users. Others grant rights (capabilities, ACLs, labels), on the host.
// ---

Server::Done Server::getxattr(Inode& inode) {
  fuse_getxattr_in asked = {};
  const char* name = nullptr;
  if (!call_.take(asked) || !call_.take_text(name)) return error(EINVAL);
  if (!is_for_users(name)) return error(EOPNOTSUPP);
  if (inode.type != S_IFREG && inode.type != S_IFDIR) return error(ENODATA);
  auto file = open_inode(inode, O_RDONLY);
  if (!file) return error(file.error());
  const usize room = std::min<usize>({asked.size, kMostValue, call_.room()});
  const ssize_t got = fgetxattr(file->number(), name, buffer_.data(), room);
  if (got < 0) return error(errno);
  if (asked.size == 0) return answer(fuse_getxattr_out{static_cast<u32>(got), 0});
  return {0, call_.answer_bytes(buffer_.data(), static_cast<usize>(got))};
}

Server::Done Server::listxattr(Inode& inode) {
  fuse_getxattr_in asked = {};
  if (!call_.take(asked)) return error(EINVAL);
  usize bytes = 0;
  if (inode.type == S_IFREG || inode.type == S_IFDIR) {
    auto file = open_inode(inode, O_RDONLY);
    if (!file) return error(file.error());
    const ssize_t got = flistxattr(file->number(), buffer_.data(), kMostValue);
    if (got < 0) return error(errno);
    for (usize at = 0; at < static_cast<usize>(got);) {
      const usize length = std::strlen(buffer_.data() + at) + 1;
      if (is_for_users(buffer_.data() + at)) {
        std::memmove(buffer_.data() + bytes, buffer_.data() + at, length);
        bytes += length;
      }
      at += length;
    }
  }
  if (asked.size == 0) return answer(fuse_getxattr_out{static_cast<u32>(bytes), 0});
  if (bytes > asked.size) return error(ERANGE);
  return {0, call_.answer_bytes(buffer_.data(), bytes)};
}

Server::Done Server::setxattr(Inode& inode) {
  struct {  // FUSE_COMPAT_SETXATTR_IN_SIZE: the longer form is not asked for
    u32 size, flags;
  } asked = {};
  const char* name = nullptr;
  if (!call_.take(asked) || !call_.take_text(name)) return error(EINVAL);
  const char* value = call_.take_bytes(asked.size);
  if (value == nullptr) return error(EINVAL);
  if (!is_for_users(name)) return error(EOPNOTSUPP);
  if (inode.type != S_IFREG && inode.type != S_IFDIR) return error(EPERM);
  auto file = open_inode(inode, O_RDONLY);
  if (!file) return error(file.error());
  return fsetxattr(file->number(), name, value, asked.size, static_cast<int>(asked.flags)) == 0
             ? fine()
             : error(errno);
}

Server::Done Server::removexattr(Inode& inode) {
  const char* name = nullptr;
  if (!call_.take_text(name)) return error(EINVAL);
  if (!is_for_users(name)) return error(EOPNOTSUPP);
  if (inode.type != S_IFREG && inode.type != S_IFDIR) return error(EPERM);
  auto file = open_inode(inode, O_RDONLY);
  if (!file) return error(file.error());
  return fremovexattr(file->number(), name) == 0 ? fine() : error(errno);
}

}  // namespace nacre::share
