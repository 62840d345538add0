// Handles: the files and folders that the guest has open, by number, each a descriptor of the host's. At most
// Limits::handles. On the server's thread.
#pragma once

#include "share/inodes.hpp"

namespace nacre::share {

struct Handle {
  host::UniqueFd file;
  u64 inode = 0;  // its number; 0: not used
  u32 generation = 0;
  bool is_folder = false;
  i64 position = 0;  // of a folder's descriptor
};

class Handles {
 public:
  Handles(Inodes& inodes, usize most);
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;

  [[nodiscard]] bool is_full() const { return free_.empty() && slots_.size() >= most_; }
  // The guest's number for it. 0: there are too many, and the file is closed.
  [[nodiscard]] u64 add(Inode& inode, host::UniqueFd file, bool is_folder);
  // Null: the guest has no such handle of that inode.
  [[nodiscard]] Handle* find(u64 number, const Inode& inode);
  void remove(u64 number, Inode& inode);
  // All; the inodes are cleared next.
  void clear();
  [[nodiscard]] usize count() const { return slots_.size() - free_.size(); }

 private:
  Inodes& inodes_;
  const usize most_;
  std::vector<Handle> slots_;
  std::vector<u32> free_;
};

}  // namespace nacre::share
