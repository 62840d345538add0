#include "share/server.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "host/error.hpp"

namespace nacre::share {
namespace {

constexpr u32 kMinorLeast = 27;  // from here on requests have today's sizes; Linux 4.20
constexpr u32 kMostPages = 256;  // of a read's or write's data
constexpr usize kMostDevices = 1024;
constexpr usize kBuffer = 128 * 1024;

// Files of these are doors to the kernel or to other processes.
bool is_kernels_own(const struct statfs& status) {
  constexpr u32 kDebugFs = 0x64626720, kTraceFs = 0x74726163, kConfigFs = 0x62656570, kMqueue = 0x19800202,
                kBinFmt = 0x42494e4d, kPstore = 0x6165676c, kEfivar = 0xde5e81e4, kFuseCtl = 0x65735543,
                kRpcPipe = 0x67596969, kNfsd = 0x6e667364;
  constexpr u32 kTypes[] = {PROC_SUPER_MAGIC,
                            SYSFS_MAGIC,
                            CGROUP_SUPER_MAGIC,
                            CGROUP2_SUPER_MAGIC,
                            SECURITYFS_MAGIC,
                            SELINUX_MAGIC,
                            BPF_FS_MAGIC,
                            NSFS_MAGIC,
                            DEVPTS_SUPER_MAGIC,
                            kDebugFs,
                            kTraceFs,
                            kConfigFs,
                            kMqueue,
                            kBinFmt,
                            kPstore,
                            kEfivar,
                            kFuseCtl,
                            kRpcPipe,
                            kNfsd,
                            PIPEFS_MAGIC,
                            SOCKFS_MAGIC};
  return std::find(std::begin(kTypes), std::end(kTypes), static_cast<u32>(status.f_type)) != std::end(kTypes);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::create(host::UniqueFd root, host::UniqueFd descriptors,
                                               const ServerOptions& options) {
  struct stat status = {};
  struct statfs system = {};
  if (fstat(root.number(), &status) != 0 || fstatfs(root.number(), &system) != 0)
    return host::errno_error("Cannot read the shared folder");
  if (!S_ISDIR(status.st_mode)) return Error{"What is to be shared is not a folder."};
  if (is_kernels_own(system))
    return Error{"A file system of the kernel's own, as /proc or /sys, cannot be shared."};
  return std::unique_ptr<Server>(new Server(std::move(root), std::move(descriptors), status, options));
}

Server::Server(host::UniqueFd root, host::UniqueFd descriptors, const struct stat& status,
               const ServerOptions& options)
    : options_(options),
      descriptors_(std::move(descriptors)),
      devices_({{status.st_dev, true}}),
      inodes_(std::move(root), status, options.limits),
      handles_(inodes_, options.limits.handles),
      buffer_(kBuffer) {}

void Server::reset() {
  handles_.clear();
  inodes_.clear();
  begun_ = false;
}

const Server::Row* Server::row_of(u32 operation) {
  static constexpr usize kOperations = FUSE_SYNCFS + 1;
  static constexpr auto kRows = [] {
    std::array<Row, kOperations> rows{};
    rows[FUSE_LOOKUP] = {&Server::lookup};
    rows[FUSE_GETATTR] = {&Server::getattr};
    rows[FUSE_SETATTR] = {&Server::setattr, true};
    rows[FUSE_READLINK] = {&Server::readlink};
    rows[FUSE_SYMLINK] = {&Server::symlink, true};
    rows[FUSE_MKNOD] = {&Server::mknod, true};
    rows[FUSE_MKDIR] = {&Server::mkdir, true};
    rows[FUSE_UNLINK] = {&Server::unlink, true};
    rows[FUSE_RMDIR] = {&Server::rmdir, true};
    rows[FUSE_RENAME] = {&Server::rename, true};
    rows[FUSE_RENAME2] = {&Server::rename2, true};
    rows[FUSE_LINK] = {&Server::link, true};
    rows[FUSE_OPEN] = {&Server::open};
    rows[FUSE_READ] = {&Server::read};
    rows[FUSE_WRITE] = {&Server::write, true};
    rows[FUSE_STATFS] = {&Server::statfs};
    rows[FUSE_RELEASE] = {&Server::release};
    rows[FUSE_FSYNC] = {&Server::fsync};
    rows[FUSE_SETXATTR] = {&Server::setxattr, true};
    rows[FUSE_GETXATTR] = {&Server::getxattr};
    rows[FUSE_LISTXATTR] = {&Server::listxattr};
    rows[FUSE_REMOVEXATTR] = {&Server::removexattr, true};
    rows[FUSE_FLUSH] = {&Server::flush};
    rows[FUSE_OPENDIR] = {&Server::opendir};
    rows[FUSE_READDIR] = {&Server::readdir};
    rows[FUSE_RELEASEDIR] = {&Server::release};
    rows[FUSE_FSYNCDIR] = {&Server::fsync};
    rows[FUSE_CREATE] = {&Server::create, true};
    rows[FUSE_FALLOCATE] = {&Server::fallocate, true};
    rows[FUSE_READDIRPLUS] = {&Server::readdirplus};
    rows[FUSE_LSEEK] = {&Server::lseek};
    rows[FUSE_COPY_FILE_RANGE] = {&Server::copy_file_range, true};
    rows[FUSE_SYNCFS] = {&Server::sync_all};
    return rows;
  }();
  return operation < kOperations && kRows[operation].perform != nullptr ? &kRows[operation] : nullptr;
}

u32 Server::serve(std::span<const iovec> in, std::span<const iovec> out) {
  if (!call_.begin(in, out)) return call_.fail(EINVAL);
  const u32 operation = call_.operation();
  if (operation == FUSE_INIT) return begin_session();
  if (operation == FUSE_FORGET || operation == FUSE_BATCH_FORGET) {
    forget_many();
    return 0;  // there is no answer
  }
  if (operation == FUSE_INTERRUPT) return 0;
  if (!begun_) return call_.fail(EIO);
  if (operation == FUSE_DESTROY) {
    reset();
    return call_.succeed();
  }
  const Row* row = row_of(operation);
  // ENOSYS: the guest's kernel does without from then on.
  if (row == nullptr) return call_.fail(ENOSYS);
  Inode* inode = inodes_.find(call_.header().nodeid);
  if (inode == nullptr)
    return call_.fail(operation == FUSE_STATFS || operation == FUSE_SYNCFS ? EINVAL : ESTALE);
  if (row->changes && options_.read_only) return call_.fail(EROFS);
  const Done done = (this->*row->perform)(*inode);
  return done.error != 0 ? call_.fail(done.error) : done.written;
}

u32 Server::begin_session() {
  fuse_init_in asked = {};
  const char* text = call_.take_bytes(__builtin_offsetof(fuse_init_in, flags2));  // older kernels end there
  if (text == nullptr) return call_.fail(EINVAL);
  std::memcpy(&asked, text, __builtin_offsetof(fuse_init_in, flags2));
  reset();
  fuse_init_out answer = {};
  answer.major = FUSE_KERNEL_VERSION;
  answer.minor = FUSE_KERNEL_MINOR_VERSION;
  if (asked.major > FUSE_KERNEL_VERSION) return call_.answer(answer);  // it asks again
  if (asked.major < FUSE_KERNEL_VERSION || asked.minor < kMinorLeast) return call_.fail(EPROTO);
  constexpr u32 kWanted = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_AUTO_INVAL_DATA |
                          FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO | FUSE_ASYNC_DIO |
                          FUSE_PARALLEL_DIROPS | FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2;
  answer.flags = asked.flags & kWanted;
  answer.max_readahead = asked.max_readahead;
  answer.max_background = 64;
  answer.congestion_threshold = 48;
  answer.max_write = kMostPages * 4096;
  answer.max_pages = kMostPages;
  answer.time_gran = 1;
  begun_ = true;
  return call_.answer(answer);
}

void Server::forget_many() {
  if (!begun_) return;
  if (call_.operation() == FUSE_FORGET) {
    fuse_forget_in one = {};
    Inode* inode = inodes_.find(call_.header().nodeid);
    if (inode != nullptr && call_.take(one)) inodes_.forget(*inode, one.nlookup);
    return;
  }
  fuse_batch_forget_in batch = {};
  fuse_forget_one one = {};
  if (!call_.take(batch)) return;
  for (u32 i = 0; i < batch.count && call_.take(one); ++i) {
    if (Inode* inode = inodes_.find(one.nodeid); inode != nullptr) inodes_.forget(*inode, one.nlookup);
  }
}

Server::Done Server::with_descriptor(Inode& inode, int& descriptor) {
  descriptor = inodes_.descriptor(inode);
  return error(descriptor < 0 ? -descriptor : 0);
}

Server::Done Server::statfs(Inode& inode) {
  int descriptor = -1;
  if (const Done done = with_descriptor(inode, descriptor); done.error != 0) return done;
  struct statfs status = {};
  if (fstatfs(descriptor, &status) != 0) return error(errno);
  fuse_statfs_out out = {};
  out.st.blocks = status.f_blocks;
  out.st.bfree = status.f_bfree;
  out.st.bavail = status.f_bavail;
  out.st.files = status.f_files;
  out.st.ffree = status.f_ffree;
  out.st.bsize = static_cast<u32>(status.f_bsize);
  out.st.namelen = static_cast<u32>(status.f_namelen);
  out.st.frsize = static_cast<u32>(status.f_frsize);
  return answer(out);
}

Server::Done Server::sync_all(Inode& inode) {
  auto file = open_inode(inode, O_RDONLY);
  if (!file) return error(file.error());
  return syncfs(file->number()) == 0 ? fine() : error(errno);
}

// The type was looked at through the very descriptor that is opened anew here, so that neither a device nor a
// pipe can be had by changing names meanwhile.
Result<host::UniqueFd, int> Server::open_inode(Inode& inode, int flags) {
  if (inode.type == S_IFLNK) return ELOOP;
  if (inode.type != S_IFREG && inode.type != S_IFDIR) return ENXIO;
  const int descriptor = inodes_.descriptor(inode);
  if (descriptor < 0) return -descriptor;
  char name[16];
  std::snprintf(name, sizeof name, "%d", descriptor);
  // Not to wait for who has a lease on the file.
  const int opened =
      openat(descriptors_.number(), name, (flags & ~O_NOFOLLOW) | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (opened < 0) return errno;
  return host::UniqueFd(opened);
}

// Mounts in the shared folder are shown, but not those of the kernel's own file systems.
bool Server::may_enter(const struct stat& status, int folder, const char* name, u32& index) {
  for (index = 0; index < devices_.size(); ++index) {
    if (devices_[index].number == status.st_dev) return devices_[index].is_open;
  }
  if (devices_.size() == kMostDevices) return false;
  const host::UniqueFd file(openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat found = {};
  struct statfs system = {};
  if (!file || fstat(file.number(), &found) != 0 || found.st_dev != status.st_dev ||
      fstatfs(file.number(), &system) != 0)
    return false;
  devices_.push_back({status.st_dev, !is_kernels_own(system)});
  return devices_.back().is_open;
}

}  // namespace nacre::share
