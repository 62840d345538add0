#include "app/life/disk_initrd.hpp"

#include <sstream>
#include <string_view>

#include "agent/client.hpp"
#include "guest/cpio.hpp"
#include "host/file_bytes.hpp"
#include "life/folder.hpp"

extern "C" const std::byte nacre_disk_init_image[], nacre_disk_init_image_end[];  // agent/image.S

namespace nacre::app {
namespace {

constexpr u64 kMostModule = 64 * kMiB;
constexpr std::string_view kAgentUnit = R"([Unit]
Description=Nacre's agent: commands and copies for the host
Documentation=man:nacre(1)
ConditionVirtualization=vm

[Service]
ExecStartPre=-modprobe vmw_vsock_virtio_transport
ExecStart=/run/nacre/agent
Restart=on-failure
# What it starts are the user's commands: they end with the session that asked for them, not with it.
KillMode=process
)";

}  // namespace

Result<std::vector<std::byte>> disk_initrd(const std::string& folder, const std::vector<MountUnit>& mounts) {
  const std::string order = TRY(life::read_file(folder + "/order"));
  guest::CpioWriter archive;
  // Before devtmpfs is mounted, process 1 has its messages from here.
  bool complete = archive.file("init", 0755, {nacre_disk_init_image, nacre_disk_init_image_end}) &&
                  archive.file("nacre-agent", 0755, agent::agent_image()) &&
                  archive.file("nacre-agent.service", 0644, std::as_bytes(std::span(kAgentUnit))) &&
                  archive.character_device("dev/console", 0600, {5, 1}) &&
                  archive.file("modules/order", 0644, std::as_bytes(std::span(order.data(), order.size())));
  std::string names;
  for (const MountUnit& unit : mounts) {
    names += unit.name + "\n";
    complete = complete && archive.file("units/" + unit.name, 0644, std::as_bytes(std::span(unit.text)));
  }
  if (!names.empty()) complete = complete && archive.file("units/list", 0644, std::as_bytes(std::span(names)));
  std::istringstream lines(order);
  for (std::string name; std::getline(lines, name);) {
    if (name.empty()) continue;
    if (name.find('/') != std::string::npos)
      return Error(folder.c_str()).append("/order should have names of files in its folder only.");
    const auto module =
        host::FileBytes::read((folder + "/" + name).c_str(), "module", kMostModule, "a kernel module");
    if (!module) return module.error();
    complete = complete && archive.file("modules/" + name, 0644, std::as_bytes(module.value().bytes()));
  }
  if (!complete) return Error(folder.c_str()).append("/order names a module twice.");
  return archive.finish();
}

}  // namespace nacre::app
