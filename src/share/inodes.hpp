// Inodes: what the guest knows of the shared folder's files, by number. docs/adr/0015-shares.md.
//
// A guest may know of any number of files; descriptors are few. So a file is known by where it was found: its
// folder's inode and its name there, and by device and inode number, by which it is recognised. A descriptor
// (O_PATH) is opened when one is needed, by opening that one name in the folder's own descriptor, never
// following a link, and kept among the latest used. A file without a place (its name was removed, but the
// guest still has it) is known by its descriptor alone.
//
// Everything that a guest may make it keep is bounded: Limits. On the server's thread.
#pragma once

#include <sys/stat.h>

#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "base/types.hpp"
#include "host/fd.hpp"

namespace nacre::share {

struct Limits {
  usize inodes = 512 * 1024;
  usize descriptors = 4096;  // of inodes; half of these at most for files without a place
  usize handles = 4096;      // files and folders that are open
};

// A list of inodes through themselves.
struct Inode;
struct Link {
  Inode* before = nullptr;
  Inode* after = nullptr;
};

struct Inode {
  u64 number = 0;      // the guest's: place in the table and generation; 0: not used
  u32 generation = 0;  // of the place
  dev_t device = 0;
  ino_t inode = 0;
  mode_t type = 0;          // S_IFMT's part
  u32 device_index = 0;     // of the devices seen; 0: the shared folder's own
  u64 lookups = 0;          // how often the guest was told of it, less what it has forgotten
  u32 children = 0;         // inodes whose folder this is
  u32 held = 0;             // by Hold
  Inode* folder = nullptr;  // null: no place (or the root)
  std::string name;
  int descriptor = -1;
  bool pinned = false;  // which of the two lists it is in, when it has a descriptor
  Link link;
  std::vector<u32> handles;  // Handles' slots that have it open

  // What a program saw that opened it last: unchanged since then, the guest may keep what it has of its
  // contents.
  struct Stamp {
    i64 seconds = 0;
    i64 nanoseconds = 0;
    i64 size = -1;
    constexpr bool operator==(const Stamp&) const = default;
  } stamp;
};

class Inodes {
 public:
  static constexpr u64 kRoot = 1;  // FUSE_ROOT_ID

  // `root`: the shared folder, open with O_PATH.
  Inodes(host::UniqueFd root, const struct stat& status, const Limits& limits);
  Inodes(const Inodes&) = delete;
  Inodes& operator=(const Inodes&) = delete;
  ~Inodes();

  // The guest's number. Null: it has no such inode.
  [[nodiscard]] Inode* find(u64 number);
  [[nodiscard]] Inode& root() { return slots_.front(); }
  // What fstatat said of `name` in `folder`: its inode, with one lookup more. Null: there are too many.
  [[nodiscard]] Inode* found(Inode& folder, const char* name, const struct stat& status, u32 device_index);
  void forget(Inode& inode, u64 lookups);
  // A handle of it is gone.
  void released(Inode& inode) { remove_if_unknown(&inode); }
  // All but the root.
  void clear();

  // An O_PATH descriptor of it (or another that is open), good until the next call unless held. Negative:
  // -errno; ESTALE: it is no longer where it was.
  [[nodiscard]] int descriptor(Inode& inode);
  // What fstat says of it, without opening it where that can be helped. 0, or errno.
  [[nodiscard]] int status(Inode& inode, struct stat& status);

  // The inode whose place is `name` in `folder`. Null: the guest has none such.
  [[nodiscard]] Inode* at(Inode& folder, const char* name);
  // The same, with a descriptor where it can have one: what is going to lose its name stays known by that.
  [[nodiscard]] Inode* secured(Inode& folder, const char* name);
  // Its place from now on; null: none.
  void place(Inode& inode, Inode* folder, const char* name);

  [[nodiscard]] usize count() const { return by_identity_.size(); }
  [[nodiscard]] usize open_descriptors() const { return recent_.count + pinned_.count; }

  // While it lives, the inode's descriptor stays open.
  class Hold {
   public:
    explicit Hold(Inode& inode) : inode_(inode) { ++inode_.held; }
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold() { --inode_.held; }

   private:
    Inode& inode_;
  };

  // How an open file gives its descriptor, for files that have lost their place. Set once.
  using HandleDescriptor = int (*)(void* context, u32 slot);
  void use_handles(HandleDescriptor give, void* context) {
    handle_descriptor_ = give;
    handle_context_ = context;
  }

 private:
  struct Identity {
    dev_t device;
    ino_t inode;
    mode_t type;
    bool operator==(const Identity&) const = default;
  };
  struct Hash {
    usize operator()(const Identity& identity) const {
      return static_cast<usize>((identity.inode * 0x9e37'79b9'7f4a'7c15) ^ (identity.device << 7));
    }
  };
  struct List {  // the latest first
    Inode* first = nullptr;
    Inode* last = nullptr;
    usize count = 0;
  };

  static bool is_same(const Inode& inode, const struct stat& status);
  Inode* make(const struct stat& status, u32 device_index);
  bool is_inside(const Inode& inode, const Inode& folder) const;
  void remove_if_unknown(Inode* inode);
  static void renew(Inode& inode);
  void keep(Inode& inode, int descriptor);
  void close_descriptor(Inode& inode);
  void touch(Inode& inode);
  static void insert(List& list, Inode& inode);
  static void take_out(List& list, Inode& inode);
  void make_room();
  int any_handle(const Inode& inode) const;
  static int open_in(int folder, const Inode& inode);

  const Limits limits_;
  std::deque<Inode> slots_;
  std::vector<u32> free_;
  std::unordered_map<Identity, u32, Hash> by_identity_;
  List recent_, pinned_;
  HandleDescriptor handle_descriptor_ = nullptr;
  void* handle_context_ = nullptr;
};

}  // namespace nacre::share
