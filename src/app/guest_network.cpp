#include "app/guest_network.hpp"

#include <arpa/inet.h>
#include <unistd.h>

#include "app/guest_assets.hpp"

namespace nacre::app {
namespace {

// In the order in which they need each other.
constexpr const char* kModuleNames[] = {"virtio_ring",           "virtio",     "virtio_pci_legacy_dev",
                                        "virtio_pci_modern_dev", "virtio_pci", "failover",
                                        "net_failover",          "virtio_net"};

std::string text_of(const net::Address4& address) {
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, address.data(), text, sizeof text);
  return text;
}

}  // namespace

Result<GuestNetwork> guest_network(const net::Plan& plan, bool own_kernel) {
  GuestNetwork network;
  network.set_up = "set -e\n";
  if (!own_kernel) {
    for (const char* name : kModuleNames) {
      const std::string file = std::string(name) + ".ko";
      auto path = TRY(cached_file(("modules-cloud/" + file).c_str()));
      if (access(path.c_str(), R_OK) != 0) {
        return Error("The guest's network needs its kernel's driver ")
            .append(path.c_str())
            .append(", which is not there: run scripts/fetch-guest of the Nacre source.");
      }
      network.modules.push_back(std::move(path));
      network.set_up += "insmod " + std::string(GuestNetwork::kModules) + file + "\n";
    }
  }
  network.set_up +=
      "[ -e /sys/class/net/eth0 ] || { echo 'The guest has no eth0: its kernel has no driver for virtio "
      "networks.' >&2; exit 1; }\n"
      "ip addr add " +
      text_of(plan.guest) + "/24 dev eth0\nip link set eth0 up\nip route add default via " +
      text_of(plan.host) + "\n";
  network.resolver =
      "search " + std::string(net::Names::kDomain) + "\nnameserver " + text_of(plan.names) + "\n";
  return network;
}

}  // namespace nacre::app
