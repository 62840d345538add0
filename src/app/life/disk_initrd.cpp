#include "app/life/disk_initrd.hpp"

#include <sstream>

#include "guest/cpio.hpp"
#include "host/file_bytes.hpp"
#include "life/folder.hpp"

extern "C" const std::byte nacre_disk_init_image[], nacre_disk_init_image_end[];  // agent/image.S

namespace nacre::app {
namespace {

constexpr u64 kMostModule = 64 * kMiB;

}  // namespace

Result<std::vector<std::byte>> disk_initrd(const std::string& folder) {
  const std::string order = TRY(life::read_file(folder + "/order"));
  guest::CpioWriter archive;
  // Before devtmpfs is mounted, process 1 has its messages from here.
  bool complete = archive.file("init", 0755, {nacre_disk_init_image, nacre_disk_init_image_end}) &&
                  archive.character_device("dev/console", 0600, {5, 1}) &&
                  archive.file("modules/order", 0644, std::as_bytes(std::span(order.data(), order.size())));
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
