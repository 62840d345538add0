#include "guest/initramfs.hpp"

namespace nacre::guest {
namespace {

struct Node {
  std::string_view path;
  std::uint32_t permissions;
  DeviceNumber number;
};

// Linux, Documentation/admin-guide/devices.txt. /dev/console must be there before /init: the kernel opens it
// as the standard input and output of process 1.
constexpr Node nodes[] = {
    {"/dev/console", 0600, {5, 1}}, {"/dev/tty", 0666, {5, 0}},     {"/dev/ttyS0", 0600, {4, 64}},
    {"/dev/null", 0666, {1, 3}},    {"/dev/zero", 0666, {1, 5}},    {"/dev/full", 0666, {1, 7}},
    {"/dev/random", 0666, {1, 8}},  {"/dev/urandom", 0666, {1, 9}}, {"/dev/kmsg", 0600, {1, 11}},
};

constexpr std::string_view empty_directories[] = {"/proc", "/sys", "/run", "/mnt", "/etc/nacre"};

constexpr std::string_view busybox_path = "/bin/busybox";

// Who programs think they are.
struct SmallFile {
  std::string_view path, text;
};
constexpr SmallFile small_files[] = {{"/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"},
                                     {"/etc/group", "root:x:0:\n"},
                                     {"/etc/hosts", "127.0.0.1 localhost nacre\n"}};

[[nodiscard]] bool add_applets(CpioWriter& archive, std::string_view applets) {
  while (!applets.empty()) {
    const auto line = applets.substr(0, applets.find('\n'));
    applets.remove_prefix(line.size() < applets.size() ? line.size() + 1 : line.size());
    if (line.empty() || archive.contains(line)) continue;
    if (!archive.symlink(line, busybox_path)) return false;
  }
  return true;
}

}  // namespace

bool add_base_tree(CpioWriter& archive, const BaseTree& tree) {
  for (const auto& node : nodes)
    if (!archive.character_device(node.path, node.permissions, node.number)) return false;
  for (const auto path : empty_directories)
    if (!archive.directory(path)) return false;
  for (const auto& file : small_files) {
    if (archive.contains(file.path)) continue;
    if (!archive.file(file.path, 0644, std::as_bytes(std::span(file.text.data(), file.text.size())))) return false;
  }
  return archive.directory("/root", 0700) && archive.directory("/tmp", 01777) &&
         archive.file("/init", 0755, std::as_bytes(std::span(init_script()))) &&
         archive.file(busybox_path, 0755, tree.busybox) && add_applets(archive, tree.applets);
}

}  // namespace nacre::guest
