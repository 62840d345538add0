#include "share/handles.hpp"

#include <algorithm>

namespace nacre::share {

Handles::Handles(Inodes& inodes, usize most) : inodes_(inodes), most_(most) {
  inodes.use_handles(
      [](void* context, u32 slot) { return static_cast<Handles*>(context)->slots_[slot].file.number(); },
      this);
}

u64 Handles::add(Inode& inode, host::UniqueFd file, bool is_folder) {
  if (is_full()) return 0;
  if (free_.empty()) {
    free_.push_back(static_cast<u32>(slots_.size()));
    slots_.emplace_back();
  }
  const u32 slot = free_.back();
  free_.pop_back();
  Handle& handle = slots_[slot];
  handle.file = std::move(file);
  handle.inode = inode.number;
  handle.is_folder = is_folder;
  handle.position = 0;
  inode.handles.push_back(slot);
  return u64{handle.generation} << 32 | (slot + 1);
}

Handle* Handles::find(u64 number, const Inode& inode) {
  const u64 slot = (number & 0xffff'ffff) - 1;
  if (slot >= slots_.size()) return nullptr;
  Handle& handle = slots_[slot];
  return handle.inode != 0 && handle.inode == inode.number && handle.generation == number >> 32 ? &handle
                                                                                                : nullptr;
}

void Handles::remove(u64 number, Inode& inode) {
  Handle* handle = find(number, inode);
  if (handle == nullptr) return;
  const u32 slot = static_cast<u32>((number & 0xffff'ffff) - 1);
  const u32 next = handle->generation + 1;
  *handle = Handle{};
  handle->generation = next;
  free_.push_back(slot);
  std::erase(inode.handles, slot);
  inodes_.released(inode);
}

void Handles::clear() {
  free_.clear();
  for (u32 i = 0; i < slots_.size(); ++i) {
    const u32 next = slots_[i].generation + 1;
    slots_[i] = Handle{};
    slots_[i].generation = next;
    free_.push_back(i);
  }
}

}  // namespace nacre::share
