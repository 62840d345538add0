#include "share/sandbox.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>

#include "host/error.hpp"

// glibc 2.36 has these in <sys/mount.h>, which does not go together with <linux/mount.h>.
extern "C" int umount2(const char* target, int flags) noexcept;

namespace nacre::share {
namespace {

constexpr int kDetach = 2;          // MNT_DETACH
constexpr u32 kRecursive = 0x8000;  // AT_RECURSIVE

bool write_text(const char* path, const std::string& text) {
  const host::UniqueFd file(open(path, O_WRONLY | O_CLOEXEC));
  return file && write(file.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Namespaces of its own, the user's numbers as they are.
bool separate() {
  if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0) return true;
  const std::string user = std::to_string(geteuid());
  const std::string group = std::to_string(getegid());
  if (unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
  return write_text("/proc/self/setgroups", "deny") &&
         write_text("/proc/self/uid_map", user + " " + user + " 1") &&
         write_text("/proc/self/gid_map", group + " " + group + " 1");
}

host::UniqueFd clone_of(const char* path, u32 flags) {
  return host::UniqueFd(
      static_cast<int>(syscall(SYS_open_tree, AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags)));
}

// The working directory becomes the root, with all that is mounted in it, and is all that there is.
bool enter(bool read_only, host::UniqueFd& descriptors) {
  // What happens to mounts here is not seen outside.
  mount_attr apart = {};
  apart.propagation = 1 << 18;  // MS_PRIVATE
  if (syscall(SYS_mount_setattr, AT_FDCWD, "/", kRecursive, &apart, sizeof apart) != 0) return false;
  descriptors = clone_of("/proc/self/fd", 0);
  const host::UniqueFd tree = clone_of(".", kRecursive);
  if (!descriptors || !tree) return false;
  mount_attr attributes = {};
  attributes.attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC;
  if (read_only) attributes.attr_set |= MOUNT_ATTR_RDONLY;
  if (syscall(SYS_mount_setattr, tree.number(), "", kRecursive | AT_EMPTY_PATH, &attributes,
              sizeof attributes) != 0)
    return false;
  if (syscall(SYS_move_mount, tree.number(), "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) != 0) return false;
  if (fchdir(tree.number()) != 0) return false;
  // The old root is put over the new one, and taken away. pivot_root(2), NOTES.
  if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", kDetach) != 0) return false;
  return chdir("/") == 0;
}

}  // namespace

Result<Place> enclose(const host::UniqueFd& folder, bool read_only, bool privileged) {
  Place place;
  if (fchdir(folder.number()) != 0) return host::errno_error("Cannot enter the shared folder");
  place.enclosed = separate();
  if (place.enclosed && !enter(read_only, place.descriptors))
    return host::errno_error("Cannot make a place for the shared folder");
  if (!place.enclosed) {
    place.descriptors = host::UniqueFd(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!place.descriptors) return host::errno_error("Sharing a folder needs /proc");
    // As much as can be had: root of a container may do this.
    static_cast<void>(!chroot("."));
  }
  place.root = host::UniqueFd(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.root) return host::errno_error("Cannot open the shared folder");
  if (auto status = give_up_capabilities(privileged); !status) return status.error();
  return place;
}

Status give_up_capabilities(bool privileged) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  // Not CAP_FSETID: without it the kernel takes set-user-ID away from what is written to.
  if (privileged)
    data[0].effective = data[0].permitted = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE | 1u << CAP_FOWNER;
  if (syscall(SYS_capset, &header, data) != 0) return host::errno_error("Cannot give up capabilities");
  return {};
}

}  // namespace nacre::share
