// Names in folders: found, made, removed, changed. Every name is one component (Call::take_name) in a
// folder's descriptor.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>

#include "share/server.hpp"

namespace nacre::share {
namespace {

constexpr u64 kSecondsOfTrust = 1;
constexpr u32 kPlain = 01777;  // of the mode of what is made: neither set-user-ID nor set-group-ID

}  // namespace

int Server::look_up(Inode& folder, const char* name, fuse_entry_out& entry, Inode*& found) {
  if (folder.type != S_IFDIR) return ENOTDIR;
  const int descriptor = inodes_.descriptor(folder);
  if (descriptor < 0) return -descriptor;
  struct stat status = {};
  if (fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0) return errno;
  u32 device = 0;
  if (!may_enter(status, descriptor, name, device)) return EACCES;
  found = inodes_.found(folder, name, status, device);
  if (found == nullptr) return ENFILE;
  entry = {};
  entry.nodeid = found->number;
  entry.entry_valid = entry.attr_valid = kSecondsOfTrust;
  entry.attr = attributes(*found, status);
  return 0;
}

Server::Done Server::entry(Inode& folder, const char* name) {
  fuse_entry_out out = {};
  Inode* found = nullptr;
  if (const int failed = look_up(folder, name, out, found); failed != 0) return error(failed);
  if (call_.room() < sizeof out) inodes_.forget(*found, 1);  // it does not hear of it
  return answer(out);
}

Server::Done Server::lookup(Inode& folder) {
  const char* name = nullptr;
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  return entry(folder, name);
}

Server::Done Server::readlink(Inode& inode) {
  if (inode.type != S_IFLNK) return error(EINVAL);
  int descriptor = -1;
  if (const Done done = with_descriptor(inode, descriptor); done.error != 0) return done;
  const ssize_t got = readlinkat(descriptor, "", buffer_.data(), PATH_MAX);
  if (got < 0) return error(errno);
  return {0, call_.answer_bytes(buffer_.data(), static_cast<usize>(got))};
}

Server::Done Server::symlink(Inode& folder) {
  const char* name = nullptr;
  const char* target = nullptr;
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  if (!call_.take_text(target)) return error(EINVAL);
  int descriptor = -1;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  if (symlinkat(target, descriptor, name) != 0) return error(errno);
  if (const int failed = own(descriptor, name); failed != 0) return error(failed);
  return entry(folder, name);
}

// Pipes and sockets are the guest's kernel's: here they are only names. Devices are not made, whoever runs
// Nacre.
Server::Done Server::mknod(Inode& folder) {
  fuse_mknod_in wanted = {};
  const char* name = nullptr;
  if (!call_.take(wanted)) return error(EINVAL);
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  const u32 type = wanted.mode & S_IFMT;
  if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK) return error(EPERM);
  int descriptor = -1;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  if (mknodat(descriptor, name, type | (wanted.mode & kPlain), 0) != 0) return error(errno);
  if (const int failed = own(descriptor, name); failed != 0) return error(failed);
  return entry(folder, name);
}

Server::Done Server::mkdir(Inode& folder) {
  fuse_mkdir_in wanted = {};
  const char* name = nullptr;
  if (!call_.take(wanted)) return error(EINVAL);
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  int descriptor = -1;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  if (mkdirat(descriptor, name, wanted.mode & kPlain) != 0) return error(errno);
  if (const int failed = own(descriptor, name); failed != 0) return error(failed);
  return entry(folder, name);
}

Server::Done Server::remove(Inode& folder, int flags) {
  const char* name = nullptr;
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  Inode* lost = inodes_.secured(folder, name);
  int descriptor = -1;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  if (unlinkat(descriptor, name, flags) != 0) return error(errno);
  if (lost != nullptr) inodes_.place(*lost, nullptr, "");
  return fine();
}

Server::Done Server::unlink(Inode& folder) {
  return remove(folder, 0);
}

Server::Done Server::rmdir(Inode& folder) {
  return remove(folder, AT_REMOVEDIR);
}

Server::Done Server::rename(Inode& folder) {
  fuse_rename_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  return rename_to(folder, wanted.newdir, 0);
}

Server::Done Server::rename2(Inode& folder) {
  fuse_rename2_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  if ((wanted.flags & ~u32{RENAME_NOREPLACE | RENAME_EXCHANGE}) != 0) return error(EINVAL);
  return rename_to(folder, wanted.newdir, wanted.flags);
}

Server::Done Server::rename_to(Inode& folder, u64 new_folder, u32 flags) {
  const char* name = nullptr;
  const char* new_name = nullptr;
  if (int failed = call_.take_name(name); failed != 0) return error(failed);
  if (int failed = call_.take_name(new_name); failed != 0) return error(failed);
  Inode* target = inodes_.find(new_folder);
  if (target == nullptr) return error(ESTALE);
  if (folder.type != S_IFDIR || target->type != S_IFDIR) return error(ENOTDIR);
  const Inodes::Hold hold_one(folder), hold_other(*target);
  Inode* moved = inodes_.at(folder, name);
  Inode* lost = inodes_.secured(*target, new_name);
  int from = -1;
  int to = -1;
  if (const Done done = with_descriptor(folder, from); done.error != 0) return done;
  if (const Done done = with_descriptor(*target, to); done.error != 0) return done;
  if (renameat2(from, name, to, new_name, flags) != 0) return error(errno);
  // Two names of one file: nothing happens. rename(2).
  if (moved == lost) return fine();
  const bool exchange = (flags & RENAME_EXCHANGE) != 0;
  if (lost != nullptr) inodes_.place(*lost, exchange ? &folder : nullptr, exchange ? name : "");
  if (moved != nullptr) inodes_.place(*moved, target, new_name);
  return fine();
}

Server::Done Server::link(Inode& folder) {
  fuse_link_in wanted = {};
  const char* name = nullptr;
  if (!call_.take(wanted)) return error(EINVAL);
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  Inode* inode = inodes_.find(wanted.oldnodeid);
  if (inode == nullptr) return error(ESTALE);
  const Inodes::Hold hold_one(folder), hold_other(*inode);
  int file = -1;
  int descriptor = -1;
  if (const Done done = with_descriptor(*inode, file); done.error != 0) return done;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  char number[16];
  std::snprintf(number, sizeof number, "%d", file);
  if (linkat(descriptors_.number(), number, descriptor, name, AT_SYMLINK_FOLLOW) != 0) return error(errno);
  return entry(folder, name);
}

Server::Done Server::create(Inode& folder) {
  fuse_create_in wanted = {};
  const char* name = nullptr;
  if (!call_.take(wanted)) return error(EINVAL);
  if (const int failed = call_.take_name(name); failed != 0) return error(failed);
  if (handles_.is_full()) return error(ENFILE);
  int descriptor = -1;
  if (const Done done = with_descriptor(folder, descriptor); done.error != 0) return done;
  const int flags = open_flags(wanted.flags) | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  host::UniqueFd file(openat(descriptor, name, flags | O_CREAT | O_EXCL, wanted.mode & kPlain));
  const bool made = static_cast<bool>(file);
  if (!made && (errno != EEXIST || (wanted.flags & O_EXCL) != 0)) return error(errno);
  if (made) {
    if (const int failed = own(descriptor, name); failed != 0) return error(failed);
  }
  struct {
    fuse_entry_out entry;
    fuse_open_out open;
  } out = {};
  Inode* found = nullptr;
  if (const int failed = look_up(folder, name, out.entry, found); failed != 0) return error(failed);
  // It was there, or is not what was made a moment ago: opened as any other.
  struct stat status = {};
  const bool is_it = made && fstat(file.number(), &status) == 0 && status.st_ino == found->inode &&
                     status.st_dev == found->device;
  if (!is_it) {
    auto opened = open_inode(*found, open_flags(wanted.flags));
    if (!opened) {
      inodes_.forget(*found, 1);
      return error(opened.error());
    }
    file = opened.take();
  }
  out.open.fh = handles_.add(*found, std::move(file), false);
  if (out.open.fh == 0 || call_.room() < sizeof out) {
    handles_.remove(out.open.fh, *found);
    inodes_.forget(*found, 1);
    return error(EIO);
  }
  return answer(out);
}

}  // namespace nacre::share
