// What a user says of a network (`--net`), and the network that it becomes.
#pragma once

#include <optional>

#include "net/user_network.hpp"

namespace nacre::net {

using Mac = std::array<u8, 6>;

struct NetConfig {
  enum class Kind : u8 { User, Tap, Switch };
  Kind kind = Kind::User;
  UserOptions user;
  std::string place;    // the tap's name, the switch's folder
  std::string capture;  // a file, or empty
  unsigned queues = 1;  // pairs of queues
  std::optional<Mac> mac;
  std::optional<u16> mtu;
};

// KIND[=VALUE][,OPTION=VALUE]…, as docs/network.md has it.
Result<NetConfig> parse(const std::string& text);
Result<std::unique_ptr<Port>> open(const NetConfig& config);
// The address that was asked for, or one for the guest's network number `index`.
Mac mac_of(const NetConfig& config, unsigned index);
// What the guest is told, 0: nothing.
u16 mtu_of(const NetConfig& config);

}  // namespace nacre::net
