// What is said of a shared folder: PATH[,readonly][,tag=NAME][,at=/DIR][,user=UID][,group=GID].
// docs/share.md.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.hpp"

namespace nacre::share {

struct ShareConfig {
  std::string path = {};
  std::string tag = {};  // empty: the last component of the path
  std::string at =
      {};  // where it is mounted, by guests that do that by themselves; empty: where it is on the host
  bool read_only = false;
  // As whose the guest sees the host user's files, where owners are not kept.
  uid_t user = 0;
  gid_t group = 0;
};

Result<ShareConfig> parse(const std::string& text);

// What the guest mounts. Error: there is no such folder, or the tag is too long.
Result<std::string> tag_of(const ShareConfig& config);
// Where: an absolute path without "." and "..". Error: there is no such folder, or it would hide the guest's
// own system.
Result<std::string> mount_point_of(const ShareConfig& config);

}  // namespace nacre::share
