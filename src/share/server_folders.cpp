// Reading folders.
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "share/server.hpp"

namespace nacre::share {

Server::Done Server::opendir(Inode& inode) {
  if (inode.type != S_IFDIR) return error(ENOTDIR);
  if (handles_.is_full()) return error(ENFILE);
  auto file = open_inode(inode, O_RDONLY | O_DIRECTORY);
  if (!file) return error(file.error());
  fuse_open_out out = {};
  out.fh = handles_.add(inode, file.take(), true);
  if (call_.room() < sizeof out) handles_.remove(out.fh, inode);
  return answer(out);
}

Server::Done Server::readdir(Inode& inode) {
  return list(inode, false);
}

Server::Done Server::readdirplus(Inode& inode) {
  return list(inode, true);
}

Server::Done Server::list(Inode& inode, bool with_attributes) {
  fuse_read_in wanted = {};
  if (!call_.take(wanted)) return error(EINVAL);
  Handle* handle = handles_.find(wanted.fh, inode);
  if (handle == nullptr || !handle->is_folder) return error(EBADF);
  const int folder = handle->file.number();
  const auto position = static_cast<i64>(wanted.offset);
  if (handle->position != position && lseek64(folder, position, SEEK_SET) < 0) return error(errno);
  handle->position = position;

  // The first half of the buffer for the host's entries, the second for the guest's.
  const usize half = buffer_.size() / 2;
  char* const answer_at = buffer_.data() + half;
  const usize room = std::min<usize>({wanted.size, call_.room(), half});
  const usize fixed = with_attributes ? sizeof(fuse_direntplus) : sizeof(fuse_dirent);
  usize done = 0;
  bool full = false;
  while (!full) {
    // The host's entries are smaller than the guest's: not many more are read than there is room for.
    const ssize_t got = getdents64(folder, buffer_.data(), std::clamp<usize>(room - done, 4096, half));
    if (got < 0) return done != 0 ? Done{0, call_.answer_bytes(answer_at, done)} : error(errno);
    if (got == 0) break;
    for (usize at = 0; at < static_cast<usize>(got);) {
      dirent64 entry = {};
      std::memcpy(&entry, buffer_.data() + at, __builtin_offsetof(dirent64, d_name));
      const char* name = buffer_.data() + at + __builtin_offsetof(dirent64, d_name);
      at += entry.d_reclen;
      const usize length = strnlen(name, NAME_MAX + 1);
      const usize size = FUSE_DIRENT_ALIGN(fixed + length);
      if (full = size > room - done; full) break;
      fuse_direntplus out = {};
      const bool own = std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0;
      // What has gone meanwhile, or cannot be known, is named without being known: the guest may ask.
      Inode* found = nullptr;
      if (with_attributes && !own && look_up(inode, name, out.entry_out, found) != 0) out.entry_out = {};
      // What is above the shared folder is not to be seen, its number neither.
      out.dirent.ino = std::strcmp(name, "..") == 0 && &inode == &inodes_.root() ? inode.inode : entry.d_ino;
      out.dirent.off = static_cast<u64>(entry.d_off);
      out.dirent.namelen = static_cast<u32>(length);
      out.dirent.type = entry.d_type;
      std::memset(answer_at + done, 0, size);
      std::memcpy(answer_at + done,
                  with_attributes ? static_cast<void*>(&out) : static_cast<void*>(&out.dirent), fixed);
      std::memcpy(answer_at + done + fixed, name, length);
      done += size;
      handle->position = entry.d_off;
    }
  }
  // The host is ahead of what was told; the next call brings it back.
  if (full) {
    if (done == 0) return error(EINVAL);
    if (lseek64(folder, handle->position, SEEK_SET) < 0) return error(errno);
  }
  return {0, call_.answer_bytes(answer_at, done)};
}

}  // namespace nacre::share
