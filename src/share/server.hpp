// Server: a folder of the host for a guest, by FUSE. Linux, include/uapi/linux/fuse.h; docs/share.md.
//
// The guest is hostile. No name it gives is more than one component, and each is opened in its folder's
// descriptor without following links, so that nothing outside of the shared folder can be named: links are
// the guest's to resolve. Only regular files and folders are ever opened; of anything else there is only an
// O_PATH descriptor. What it may make the server keep is bounded (inodes.hpp).
//
// Threads: one. In its own process (process.hpp), or in a test.
#pragma once

#include <memory>

#include "share/call.hpp"
#include "share/handles.hpp"
#include "share/inodes.hpp"

namespace nacre::share {

struct ServerOptions {
  bool read_only = false;
  // Files keep their owners' numbers; else the host user's are shown as the guest's `user` and `group`, all
  // others as nobody's, and what the guest says of owners is not heeded.
  bool keeps_owners = false;
  uid_t host_user = 0;
  gid_t host_group = 0;
  uid_t user = 0;
  gid_t group = 0;
  Limits limits;
};

class Server {
 public:
  // `root`: the folder, O_PATH. `descriptors`: /proc/self/fd, through which what an O_PATH descriptor is of
  // can be opened.
  static Result<std::unique_ptr<Server>> create(host::UniqueFd root, host::UniqueFd descriptors,
                                                const ServerOptions& options);
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // One request: how many bytes of the answer were written to `out`.
  u32 serve(std::span<const iovec> in, std::span<const iovec> out);
  // The guest has let go of the device: nothing is known or open any more.
  void reset();

  [[nodiscard]] const Inodes& inodes() const { return inodes_; }
  [[nodiscard]] const Handles& handles() const { return handles_; }

 private:
  // What a request's operation says: an answer that is written, or an error.
  struct Done {
    int error = 0;
    u32 written = 0;
  };
  using Operation = Done (Server::*)(Inode&);
  struct Row {
    Operation perform = nullptr;
    bool changes = false;  // not on a share that is read-only
  };
  struct Device {
    dev_t number;
    bool is_open;  // false: a file system of the kernel's own
  };

  Server(host::UniqueFd root, host::UniqueFd descriptors, const struct stat& status,
         const ServerOptions& options);
  static const Row* row_of(u32 operation);

  static Done error(int number) { return {number, 0}; }
  Done fine() { return {0, call_.succeed()}; }
  template <typename T>
  Done answer(const T& value) {
    return {0, call_.answer(value)};
  }

  // server.cpp
  u32 begin_session();
  void forget_many();
  Done statfs(Inode& inode);
  Done sync_all(Inode& inode);
  // The descriptor of an inode, or an error.
  Done with_descriptor(Inode& inode, int& descriptor);
  // What the inode's O_PATH descriptor is of, opened in earnest: a regular file or a folder.
  Result<host::UniqueFd, int> open_inode(Inode& inode, int flags);
  bool may_enter(const struct stat& status, int folder, const char* name, u32& index);

  // server_attributes.cpp
  fuse_attr attributes(const Inode& inode, const struct stat& status) const;
  Done getattr(Inode& inode);
  Done setattr(Inode& inode);
  int set_mode(Inode& inode, u32 mode);
  int set_owner(Inode& inode, const fuse_setattr_in& wanted);
  int set_size(Inode& inode, const fuse_setattr_in& wanted);
  int set_times(Inode& inode, const fuse_setattr_in& wanted);
  int own(int folder, const char* name) const;
  Done getxattr(Inode& inode);
  Done setxattr(Inode& inode);
  Done listxattr(Inode& inode);
  Done removexattr(Inode& inode);

  // server_names.cpp
  Done lookup(Inode& folder);
  Done readlink(Inode& inode);
  Done symlink(Inode& folder);
  Done mknod(Inode& folder);
  Done mkdir(Inode& folder);
  Done unlink(Inode& folder);
  Done rmdir(Inode& folder);
  Done rename(Inode& folder);
  Done rename2(Inode& folder);
  Done link(Inode& folder);
  Done create(Inode& folder);
  int look_up(Inode& folder, const char* name, fuse_entry_out& entry, Inode*& found);
  Done entry(Inode& folder, const char* name);
  Done remove(Inode& folder, int flags);
  Done rename_to(Inode& folder, u64 new_folder, u32 flags);

  // server_files.cpp
  Done open(Inode& inode);
  Done read(Inode& inode);
  Done write(Inode& inode);
  Done flush(Inode& inode);
  Done release(Inode& inode);
  Done fsync(Inode& inode);
  Done fallocate(Inode& inode);
  Done lseek(Inode& inode);
  Done copy_file_range(Inode& inode);
  int open_flags(u32 guests) const;
  u32 cache_flags(Inode& inode, int file);

  // server_folders.cpp
  Done opendir(Inode& inode);
  Done readdir(Inode& inode);
  Done readdirplus(Inode& inode);
  Done list(Inode& inode, bool with_attributes);

  const ServerOptions options_;
  const host::UniqueFd descriptors_;
  bool begun_ = false;  // after INIT
  std::vector<Device> devices_;
  Inodes inodes_;
  Handles handles_;
  Call call_;
  std::vector<iovec> pieces_;
  std::vector<char> buffer_;  // of answers that are made here
};

}  // namespace nacre::share
