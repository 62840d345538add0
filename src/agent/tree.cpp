#include "agent/tree.hpp"

#include "agent/system.hpp"

namespace nacre::agent {
namespace {

constexpr u32 kPermissions = 0777;

void copy_name(char (&to)[256], const char* from) {
  usize i = 0;
  for (; from[i] != 0 && i < sizeof to - 1; ++i) to[i] = from[i];
  to[i] = 0;
}

bool is_name(const char* name) {
  const usize length = sys::length(name);
  if (length == 0 || length > 255) return false;
  for (usize i = 0; i < length; ++i) {
    if (name[i] == '/') return false;
  }
  const bool dots = name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.'));
  return !dots;
}

// The last part of a path without slashes behind it. False: it has none that is a name.
bool last_part(const char* path, char (&name)[256], usize& start) {
  usize end = sys::length(path);
  while (end > 1 && path[end - 1] == '/') --end;
  start = end;
  while (start > 0 && path[start - 1] != '/') --start;
  if (end - start > 255) return false;
  for (usize i = start; i < end; ++i) name[i - start] = path[i];
  name[end - start] = 0;
  return is_name(name);
}

Attributes attributes_of(const struct stat& status) {
  return {status.st_mode & kPermissions, static_cast<u32>(status.st_mtim.tv_nsec), status.st_mtim.tv_sec};
}

// Of an open file, the way it comes.
long set_attributes(int file, const Attributes& attributes) {
  const long nanoseconds =
      attributes.nanoseconds < 1'000'000'000 ? static_cast<long>(attributes.nanoseconds) : 0;
  const timespec times[2] = {{0, UTIME_OMIT}, {attributes.seconds, nanoseconds}};
  const long mode = sys::fchmod(file, attributes.mode & kPermissions);
  const long time = sys::utimensat(file, nullptr, times, 0);
  return mode < 0 ? mode : time;
}

}  // namespace

void Problems::add(long error, const char* name) {
  if (count++ != 0) return;
  first_error = static_cast<u32>(error < 0 ? -error : error);
  copy_name(first_name, name);
}

// --- sending ---

int TreeSender::send(const char* path) {
  char name[256];
  usize start;
  if (!last_part(path, name, start)) return EINVAL;
  struct stat status;
  if (const long error = sys::fstatat(AT_FDCWD, path, status, 0); error < 0) return static_cast<int>(-error);
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return EINVAL;
  // Its being readable is a condition, not a problem of a part.
  const long file = sys::openat(AT_FDCWD, path, O_RDONLY | O_NONBLOCK);
  if (file < 0) return static_cast<int>(-file);
  sys::close(static_cast<int>(file));
  entry(AT_FDCWD, path, name, status, 0);
  return gone_ ? -1 : 0;
}

void TreeSender::problem(long error, const char* name) {
  const u32 number = static_cast<u32>(-error);
  sent(wire_.send_value(Frame::Problem, number, {name, sys::length(name) + 1}));
}

void TreeSender::entry(int folder, const char* name, const char* sent_name, const struct stat& status,
                       unsigned depth) {
  const Bytes text = {sent_name, sys::length(sent_name) + 1};
  if (S_ISLNK(status.st_mode)) {
    char target[4097];
    const long length = sys::readlinkat(folder, name, target, sizeof target - 1);
    if (length < 0) return problem(length, sent_name);
    target[length] = 0;
    return sent(wire_.send(Frame::Link, text, {target, static_cast<usize>(length) + 1}));
  }
  if (!S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) return problem(-EOPNOTSUPP, sent_name);
  if (S_ISDIR(status.st_mode) && depth == kMostDepth) return problem(-ELOOP, sent_name);
  // Not through a link that has been put there in the meantime, and not waiting for a pipe's other end.
  const int no_links = depth == 0 ? 0 : O_NOFOLLOW;
  const long opened = sys::openat(folder, name, O_RDONLY | O_NONBLOCK | no_links);
  if (opened < 0) return problem(opened, sent_name);
  const int file_ = static_cast<int>(opened);
  const Attributes attributes = attributes_of(status);
  if (S_ISREG(status.st_mode)) {
    sent(wire_.send_value(Frame::File, attributes, text));
    file(file_, sent_name);
  } else {
    sent(wire_.send_value(Frame::Directory, attributes, text));
    directory(file_, depth + 1);
    sent(wire_.send(Frame::Leave));
  }
  sys::close(file_);
}

void TreeSender::file(int file, const char* name) {
  while (!gone_) {
    const long got = sys::read(file, bytes_, sizeof bytes_);
    if (got == -EINTR) continue;
    if (got < 0) problem(got, name);
    if (got <= 0) break;
    sent(wire_.send(Frame::Data, {bytes_, static_cast<usize>(got)}));
  }
  sent(wire_.send(Frame::End));
}

void TreeSender::directory(int folder, unsigned depth) {
  struct Entry {  // getdents64(2)
    u64 inode;
    i64 offset;
    u16 bytes;
    u8 type;
    char name[1];
  };
  alignas(8) u8 buffer[2048];
  while (!gone_) {
    const long got = sys::getdents(folder, buffer, sizeof buffer);
    if (got < 0) problem(got, ".");
    if (got <= 0) return;
    for (long at = 0; at < got && !gone_;) {
      const auto* found = reinterpret_cast<const Entry*>(buffer + at);
      const char* name = reinterpret_cast<const char*>(buffer + at) + offsetof(Entry, name);
      at += found->bytes;
      if (!is_name(name)) continue;  // "." and ".."
      struct stat status;
      const long error = sys::fstatat(folder, name, status, AT_SYMLINK_NOFOLLOW);
      if (error < 0) {
        problem(error, name);
      } else {
        entry(folder, name, name, status, depth);
      }
    }
  }
}

// --- receiving ---

TreeReceiver::~TreeReceiver() {
  if (file_ >= 0) sys::close(file_);
  while (depth_ != 0) sys::close(folders_[--depth_].file);
  if (root_ >= 0) sys::close(root_);
}

int TreeReceiver::place(const char* path, bool must_be_directory) {
  const usize length = sys::length(path);
  must_be_directory = must_be_directory || (length != 0 && path[length - 1] == '/');
  long folder = sys::openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
  if (folder < 0) {
    if (must_be_directory || (folder != -ENOENT && folder != -ENOTDIR)) return static_cast<int>(-folder);
    usize start;
    if (!last_part(path, name_, start)) return EINVAL;
    char parent[4096] = ".";
    if (start >= sizeof parent) return ENAMETOOLONG;
    for (usize i = 0; i < start; ++i) parent[i] = path[i];
    if (start != 0) parent[start] = 0;
    folder = sys::openat(AT_FDCWD, parent, O_RDONLY | O_DIRECTORY);
    if (folder < 0) return static_cast<int>(-folder);
  }
  root_ = static_cast<int>(folder);
  return 0;
}

void TreeReceiver::entered() {
  if (depth_ == 0 && skipped_ == 0 && !in_file_) complete_ = true;
}

bool TreeReceiver::take(Frame type, const u8* bytes, u32 count) {
  if (complete_) return false;
  Payload payload(bytes, count);
  switch (type) {
    case Frame::Data:
      if (!in_file_) return false;
      data(bytes, count);
      return true;
    case Frame::End:
      if (!in_file_) return false;
      end_file();
      return true;
    case Frame::Leave:
      if (in_file_ || depth_ + skipped_ == 0) return false;
      leave();
      return true;
    case Frame::Problem: {
      const long error = payload.value<u32>() & 0xffff;
      const char* name = payload.text();
      if (!payload.ok()) return false;
      problems_.add(error, name);
      entered();  // of the root entry: there is no more
      return true;
    }
    case Frame::File:
    case Frame::Directory:
    case Frame::Link:
      break;
    default:
      return false;
  }
  if (in_file_) return false;
  Attributes attributes;
  if (type != Frame::Link) attributes = payload.value<Attributes>();
  const char* name = payload.text();
  const char* target = type == Frame::Link ? payload.text() : "";
  if (!payload.ok() || !is_name(name)) return false;
  if (depth_ + skipped_ == 0 && name_[0] != 0) name = name_;
  if (type == Frame::File) begin_file(name, attributes);
  if (type == Frame::Directory) begin_directory(name, attributes);
  if (type == Frame::Link) link(name, target);
  return true;
}

// Away with a file or link of that name. A directory, and what is no file, stays.
long TreeReceiver::make_room(const char* name) const {
  struct stat status;
  if (const long error = sys::fstatat(here(), name, status, AT_SYMLINK_NOFOLLOW); error < 0) return error;
  if (S_ISDIR(status.st_mode)) return -EISDIR;
  if (!S_ISREG(status.st_mode) && !S_ISLNK(status.st_mode)) return -EEXIST;
  return sys::unlinkat(here(), name);
}

void TreeReceiver::begin_file(const char* name, const Attributes& attributes) {
  in_file_ = true;
  attributes_ = attributes;
  copy_name(file_name_, name);
  if (skipped_ != 0) return;
  const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  long file = sys::openat(here(), name, flags, 0600);
  if (file == -EEXIST) {
    file = make_room(name);
    if (file >= 0) file = sys::openat(here(), name, flags, 0600);
  }
  if (file < 0) return problems_.add(file, name);
  file_ = static_cast<int>(file);
}

void TreeReceiver::data(const u8* bytes, u32 count) {
  while (file_ >= 0 && count != 0) {
    const long written = sys::write(file_, bytes, count);
    if (written == -EINTR) continue;
    if (written <= 0) {  // a full disk: the part that was written stays
      problems_.add(written, file_name_);
      sys::close(file_);
      file_ = -1;
      return;
    }
    bytes += written;
    count -= static_cast<u32>(written);
  }
}

void TreeReceiver::end_file() {
  if (file_ >= 0) {
    const long error = set_attributes(file_, attributes_);
    const long closed = sys::close(file_);
    if (error < 0 || closed < 0) problems_.add(error < 0 ? error : closed, file_name_);
    ++files_;
  }
  file_ = -1;
  in_file_ = false;
  entered();
}

void TreeReceiver::begin_directory(const char* name, const Attributes& attributes) {
  if (skipped_ != 0 || depth_ == kMostDepth) {
    if (skipped_ == 0) problems_.add(-ELOOP, name);
    // Without end they may come: no more than this is counted, and no file is touched meanwhile.
    if (skipped_ < 0xffff'ffff) ++skipped_;
    return;
  }
  long result = sys::mkdirat(here(), name, 0700);
  if (result == -EEXIST) result = 0;
  if (result >= 0) result = sys::openat(here(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (result < 0) {
    problems_.add(result, name);
    ++skipped_;
    return;
  }
  folders_[depth_++] = {static_cast<int>(result), attributes};
}

void TreeReceiver::leave() {
  if (skipped_ != 0) {
    --skipped_;
  } else {
    const Folder& folder = folders_[--depth_];
    if (const long error = set_attributes(folder.file, folder.attributes); error < 0)
      problems_.add(error, ".");
    sys::close(folder.file);
  }
  entered();
}

void TreeReceiver::link(const char* name, const char* target) {
  if (skipped_ == 0) {
    long error = sys::symlinkat(target, here(), name);
    if (error == -EEXIST) {
      error = make_room(name);
      if (error >= 0) error = sys::symlinkat(target, here(), name);
    }
    if (error < 0) problems_.add(error, name);
    if (error >= 0) ++files_;
  }
  entered();
}

}  // namespace nacre::agent
