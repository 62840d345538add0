#include "share/inodes.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

namespace nacre::share {
namespace {

constexpr usize kMostDepth =
    1024;  // folders to be opened one in the other before one whose descriptor is there
constexpr unsigned kIndexBits = 32;

u64 number_of(u32 slot, u32 generation) {
  return u64{generation} << kIndexBits | (slot + 1);
}

}  // namespace

Inodes::Inodes(host::UniqueFd root, const struct stat& status, const Limits& limits) : limits_(limits) {
  Inode& inode = *make(status, 0);
  inode.lookups = 1;
  ++inode.held;  // its descriptor is in no list's reach
  inode.descriptor = dup(root.number());
}

Inodes::~Inodes() {
  for (Inode& inode : slots_) {
    if (inode.descriptor >= 0) close(inode.descriptor);
  }
}

bool Inodes::is_same(const Inode& inode, const struct stat& status) {
  return inode.inode == status.st_ino && inode.device == status.st_dev &&
         inode.type == (status.st_mode & S_IFMT);
}

Inode* Inodes::find(u64 number) {
  const u64 index = (number & 0xffff'ffff) - 1;
  if (index >= slots_.size()) return nullptr;
  Inode& inode = slots_[index];
  return inode.number == number && number != 0 && inode.lookups != 0 ? &inode : nullptr;
}

Inode* Inodes::make(const struct stat& status, u32 device_index) {
  if (free_.empty()) {
    if (slots_.size() >= limits_.inodes) return nullptr;
    free_.push_back(static_cast<u32>(slots_.size()));
    slots_.emplace_back();
  }
  const u32 slot = free_.back();
  free_.pop_back();
  Inode& inode = slots_[slot];
  inode.number = number_of(slot, inode.generation);
  inode.device = status.st_dev;
  inode.inode = status.st_ino;
  inode.type = status.st_mode & S_IFMT;
  inode.device_index = device_index;
  by_identity_.emplace(Identity{inode.device, inode.inode, inode.type}, slot);
  return &inode;
}

Inode* Inodes::found(Inode& folder, const char* name, const struct stat& status, u32 device_index) {
  const auto known = by_identity_.find({status.st_dev, status.st_ino, status.st_mode & S_IFMT});
  Inode* inode = known != by_identity_.end() ? &slots_[known->second] : make(status, device_index);
  if (inode == nullptr) return nullptr;
  ++inode->lookups;
  if (inode != &root() && (inode->folder != &folder || inode->name != name)) place(*inode, &folder, name);
  return inode;
}

// Whether `folder` is `inode` or in it, by what is known.
bool Inodes::is_inside(const Inode& inode, const Inode& folder) const {
  for (const Inode* at = &folder; at != nullptr; at = at->folder) {
    if (at == &inode) return true;
  }
  return false;
}

// A folder that the host has moved may be found in what is known as its own inside: then what is known of
// that is old.
void Inodes::place(Inode& inode, Inode* folder, const char* name) {
  if (folder != nullptr && inode.children != 0 && is_inside(inode, *folder)) {
    if (folder == &inode) return;
    Inode* outer = folder;
    while (outer->folder != &inode) outer = outer->folder;
    place(*outer, nullptr, "");
  }
  Inode* before = inode.folder;
  inode.folder = folder;
  inode.name = name;
  if (folder != nullptr) ++folder->children;
  if (inode.descriptor >= 0) touch(inode);  // into the list of its kind
  if (before != nullptr) {
    --before->children;
    remove_if_unknown(before);
  }
}

void Inodes::forget(Inode& inode, u64 lookups) {
  if (&inode == &root()) return;
  inode.lookups -= std::min(lookups, inode.lookups);
  remove_if_unknown(&inode);
}

// The number that the place had is not given again: only the next generation's.
void Inodes::renew(Inode& inode) {
  const u32 next = inode.generation + 1;
  inode = Inode{};
  inode.generation = next;
}

void Inodes::remove_if_unknown(Inode* inode) {
  while (inode != nullptr && inode != &root() && inode->lookups == 0 && inode->children == 0 &&
         inode->handles.empty() && inode->held == 0) {
    Inode* folder = inode->folder;
    close_descriptor(*inode);
    by_identity_.erase({inode->device, inode->inode, inode->type});
    free_.push_back(static_cast<u32>((inode->number & 0xffff'ffff) - 1));
    renew(*inode);
    if (folder != nullptr) --folder->children;
    inode = folder;
  }
}

void Inodes::clear() {
  by_identity_.clear();
  free_.clear();
  for (u32 i = 1; i < slots_.size(); ++i) {
    Inode& inode = slots_[i];
    if (inode.descriptor >= 0) close(inode.descriptor);
    renew(inode);
    free_.push_back(i);
  }
  recent_ = pinned_ = {};
  Inode& first = root();
  first.children = 0;
  first.handles.clear();
  by_identity_.emplace(Identity{first.device, first.inode, first.type}, 0);
}

// --- descriptors ---

void Inodes::insert(List& list, Inode& inode) {
  inode.link = {nullptr, list.first};
  if (list.first != nullptr) list.first->link.before = &inode;
  list.first = &inode;
  if (list.last == nullptr) list.last = &inode;
  ++list.count;
}

void Inodes::take_out(List& list, Inode& inode) {
  (inode.link.before != nullptr ? inode.link.before->link.after : list.first) = inode.link.after;
  (inode.link.after != nullptr ? inode.link.after->link.before : list.last) = inode.link.before;
  inode.link = {};
  --list.count;
}

void Inodes::touch(Inode& inode) {
  if (&inode == &root()) return;
  List& old = inode.pinned ? pinned_ : recent_;
  const bool pinned = inode.folder == nullptr;
  if (old.first == &inode && pinned == inode.pinned) return;
  take_out(old, inode);
  inode.pinned = pinned;
  insert(pinned ? pinned_ : recent_, inode);
}

void Inodes::close_descriptor(Inode& inode) {
  if (inode.descriptor < 0) return;
  take_out(inode.pinned ? pinned_ : recent_, inode);
  close(inode.descriptor);
  inode.descriptor = -1;
}

// For one more.
void Inodes::make_room() {
  const auto close_last = [this](List& list, usize most) {
    for (Inode* at = list.last; at != nullptr && list.count >= most;) {
      Inode* before = at->link.before;
      if (at->held == 0) close_descriptor(*at);
      at = before;
    }
  };
  const usize most_pinned = limits_.descriptors / 2;
  close_last(pinned_, most_pinned);
  close_last(recent_, limits_.descriptors - pinned_.count);
}

void Inodes::keep(Inode& inode, int descriptor) {
  make_room();
  inode.descriptor = descriptor;
  inode.pinned = inode.folder == nullptr;
  insert(inode.pinned ? pinned_ : recent_, inode);
}

int Inodes::any_handle(const Inode& inode) const {
  return inode.handles.empty() ? -ESTALE : handle_descriptor_(handle_context_, inode.handles.front());
}

// The file `inode` at its name in the folder that `folder` is a descriptor of.
int Inodes::open_in(int folder, const Inode& inode) {
  const int descriptor = openat(folder, inode.name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC);
  if (descriptor < 0) return errno == ENOENT || errno == ENOTDIR ? -ESTALE : -errno;
  struct stat status = {};
  if (fstat(descriptor, &status) == 0 && is_same(inode, status)) return descriptor;
  close(descriptor);
  return -ESTALE;
}

int Inodes::descriptor(Inode& inode) {
  if (inode.descriptor >= 0) {
    touch(inode);
    return inode.descriptor;
  }
  // Up to the first folder that is open, then down again.
  std::vector<Inode*> path;
  Inode* at = &inode;
  for (; at != nullptr && at->descriptor < 0; at = at->folder) {
    if (path.size() == kMostDepth) return any_handle(inode);
    path.push_back(at);
  }
  if (at == nullptr) return any_handle(inode);
  for (; !path.empty(); path.pop_back()) {
    const int descriptor = open_in(at->descriptor, *path.back());
    if (descriptor < 0) {
      const int other = descriptor == -ESTALE ? any_handle(inode) : descriptor;
      return other;
    }
    const Hold hold(*at);
    keep(*path.back(), descriptor);
    at = path.back();
  }
  return inode.descriptor;
}

int Inodes::status(Inode& inode, struct stat& status) {
  if (inode.descriptor < 0 && inode.handles.empty() && inode.folder != nullptr) {
    const int folder = descriptor(*inode.folder);
    if (folder < 0) return -folder;
    if (fstatat(folder, inode.name.c_str(), &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0)
      return errno == ENOENT || errno == ENOTDIR ? ESTALE : errno;
    return is_same(inode, status) ? 0 : ESTALE;
  }
  const int file = inode.descriptor < 0 && !inode.handles.empty() ? any_handle(inode) : descriptor(inode);
  if (file < 0) return -file;
  return fstat(file, &status) == 0 ? 0 : errno;
}

// --- names that change ---

Inode* Inodes::at(Inode& folder, const char* name) {
  const int descriptor = this->descriptor(folder);
  struct stat status = {};
  if (descriptor < 0 || fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT) != 0)
    return nullptr;
  const auto known = by_identity_.find({status.st_dev, status.st_ino, status.st_mode & S_IFMT});
  if (known == by_identity_.end()) return nullptr;
  Inode& inode = slots_[known->second];
  return inode.folder == &folder && inode.name == name ? &inode : nullptr;
}

Inode* Inodes::secured(Inode& folder, const char* name) {
  Inode* inode = at(folder, name);
  if (inode != nullptr) static_cast<void>(descriptor(*inode));
  return inode;
}

}  // namespace nacre::share
