// The guest of `nacre run`: where its kernel and BusyBox are, and its first root file system, built in
// memory.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "app/guest_network.hpp"
#include "app/guest_shares.hpp"
#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::app {

// ${XDG_CACHE_HOME:-~/.cache}/nacre/NAME; an Error without a home.
Result<std::string> cached_file(const char* name);

struct AddedFile {
  std::string host_path, guest_path;
};
// "HOST:GUEST", or "HOST" for the same place in the guest.
Result<AddedFile> parse_added_file(const std::string& text);

struct GuestContent {
  std::vector<std::string> command;      // empty: a shell on the console
  std::vector<std::string> environment;  // NAME=VALUE
  std::vector<AddedFile> files;
  std::optional<GuestShares> shares;
  std::optional<GuestNetwork> network;
};

Result<std::vector<std::byte>> build_initramfs(const GuestContent& content);

}  // namespace nacre::app
