// Shared folders, seen from the guest: what mounts them where they belong. docs/share.md.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "share/options.hpp"

namespace nacre::app {

// Of `nacre run`: a script for the guest's shell; its failure is the guest's end.
struct GuestShares {
  std::string set_up;
  std::vector<std::string> modules;  // files of this machine, as set_up loads them from kModules
  std::string directory;             // where the command starts: this very folder, when it is shared; else empty
  static constexpr const char* kModules = "/lib/modules/nacre/";
};
// `own_kernel`: it is not the cached one, whose drivers are modules in the cache; it has to bring its own.
Result<GuestShares> guest_shares(const std::vector<share::ShareConfig>& shares, bool own_kernel);

// Of a guest with systemd: a mount unit for each.
struct MountUnit {
  std::string name, text;
};
Result<std::vector<MountUnit>> mount_units(const std::vector<share::ShareConfig>& shares);

// Each text as --share has it. Error: one is not, or two have the same tag.
Result<std::vector<share::ShareConfig>> parse_shares(const std::vector<std::string>& texts);

}  // namespace nacre::app
