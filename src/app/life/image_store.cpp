#include "app/life/image_store.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "host/error.hpp"
#include "host/fd.hpp"
#include "life/folder.hpp"

extern "C" const std::byte nacre_debian_script_image[], nacre_debian_script_image_end[];  // agent/image.S

namespace nacre::app {
namespace {

bool is_there(const std::string& path) {
  return access(path.c_str(), F_OK) == 0;
}

Result<Image> read_image(const std::string& folder) {
  char resolved[PATH_MAX];
  if (realpath(folder.c_str(), resolved) == nullptr)
    return host::errno_error("Cannot find the image", folder.c_str());
  Image image;
  image.folder = resolved;
  const auto part = [&image](const char* name) {
    const std::string path = image.folder + "/" + name;
    return is_there(path) ? path : std::string();
  };
  image.kernel = part("vmlinuz");
  image.initrd = part("initrd");
  image.disk = part("disk.qcow2");
  if (image.initrd.empty()) image.modules = part("modules");
  if (image.kernel.empty()) return Error(resolved).append(" is no image: there is no vmlinuz in it.");
  image.manifest.name = folder;
  if (const std::string manifest = part("image.toml"); !manifest.empty()) {
    const std::string text = TRY(life::read_file(manifest));
    image.manifest = TRY(life::parse_manifest(text, manifest));
  }
  return image;
}

// The script as a file that has no name, so that a nacre which was copied somewhere needs nothing beside it.
Result<host::UniqueFd> script_file() {
  host::UniqueFd file(memfd_create("make-debian-image", 0));
  const auto* text = reinterpret_cast<const u8*>(nacre_debian_script_image);
  const auto bytes = static_cast<usize>(nacre_debian_script_image_end - nacre_debian_script_image);
  if (!file || !host::write_all(file.number(), {text, bytes}))
    return host::errno_error("Cannot hold the image's script");
  return file;
}

Status make_debian(const std::string& folder) {
  const auto script = TRY(script_file());
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0)
    return host::errno_error("Cannot find nacre itself");
  setenv("NACRE", self, 1);
  std::string path = "/proc/self/fd/" + std::to_string(script.number()), target = folder;
  char name[] = "bash";
  char* words[] = {name, path.data(), target.data(), nullptr};
  pid_t process = 0;
  if (const int failed = posix_spawnp(&process, "bash", nullptr, nullptr, words, environ); failed != 0)
    return host::error_with_number(failed, "Cannot run", "bash");
  // Ctrl-C reaches the script too, which cleans up; we go when it has.
  void (*const before)(int) = signal(SIGINT, SIG_IGN);
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  signal(SIGINT, before);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error{"The Debian image could not be made; nothing was left behind, and nacre create tries again."};
}

}  // namespace

Result<Image> find_image(const std::string& name) {
  if (name.find('/') != std::string::npos || name == ".") return read_image(name);
  if (name != "debian:12" && name != "debian")
    return Error("There is no image \"")
        .append(name.c_str())
        .append("\"; there is debian:12, or give a folder with a vmlinuz, as in --from ./folder.");
  const std::string images = TRY(life::data_folder()) + "/images", folder = images + "/debian-12";
  if (!is_there(folder + "/image.toml")) {
    TRY(life::make_folders(images));
    TRY(make_debian(folder));
  }
  return read_image(folder);
}

}  // namespace nacre::app
