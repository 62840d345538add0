// The network of `nacre run --net user`, seen from the guest: its drivers, and its addresses, which are known
// before it starts. A lease by DHCP would take a second.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "net/names.hpp"

namespace nacre::app {

struct GuestNetwork {
  std::string set_up;                // a script for the guest's shell; its failure is the guest's end
  std::string resolver;              // resolv.conf
  std::vector<std::string> modules;  // files of this machine, as set_up loads them from kModules
  static constexpr const char* kModules = "/lib/modules/nacre/";
};

// `own_kernel`: it is not the cached one, whose drivers are modules in the cache; it has to bring its own.
Result<GuestNetwork> guest_network(const net::Plan& plan, bool own_kernel);

}  // namespace nacre::app
