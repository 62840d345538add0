#include "app/life/image_store.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "app/machine_options.hpp"
#include "app/signal_events.hpp"
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
  host::UniqueFd file(memfd_create("make-debian-image", MFD_CLOEXEC));
  const auto* text = reinterpret_cast<const u8*>(nacre_debian_script_image);
  const auto bytes = static_cast<usize>(nacre_debian_script_image_end - nacre_debian_script_image);
  if (!file || !host::write_all(file.number(), {text, bytes}))
    return host::errno_error("Cannot hold the image's script");
  return file;
}

// In a process group of its own: what the terminal sends (Ctrl-C) comes by us, once.
Result<pid_t> start_script(const std::string& script, const std::string& folder, const sigset_t& mask) {
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t as_usual;
  sigemptyset(&as_usual);
  sigaddset(&as_usual, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &as_usual);
  posix_spawnattr_setsigmask(&attributes, &mask);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes,
                           POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  // Nothing of ours, nor of whoever started us: mmdebstrap's shells know no descriptor above 9.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
  std::string path = script, target = folder;
  char name[] = "bash";
  char* words[] = {name, path.data(), target.data(), nullptr};
  pid_t process = 0;
  const int failed = posix_spawnp(&process, name, &actions, &attributes, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed != 0) return host::error_with_number(failed, "Cannot run", name);
  return process;
}

// Its status; a signal that is to end us goes on to it, which cleans up, and is told of in `signal`.
int wait_for_script(pid_t process, const SignalEvents& signals, int& signal) {
  const host::UniqueFd ended(static_cast<int>(syscall(SYS_pidfd_open, process, 0)));
  while (ended) {
    pollfd entries[] = {{ended.number(), POLLIN, 0}, {signals.descriptor(), POLLIN, 0}};
    if (poll(entries, 2, -1) < 0) continue;
    if (entries[0].revents != 0) break;
    const int next = signals.next();
    if (next == 0 || next == SIGWINCH) continue;
    signal = next;
    kill(process, next == SIGINT ? SIGINT : SIGTERM);
  }
  int status = 0;
  while (waitpid(process, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

Status make_debian(const std::string& folder) {
  const auto script = TRY(script_file());
  char self[PATH_MAX] = {};
  if (readlink("/proc/self/exe", self, sizeof self - 1) <= 0)
    return host::errno_error("Cannot find nacre itself");
  setenv("NACRE", self, 1);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, nullptr, &before);
  const auto signals = TRY(SignalEvents::create());
  const auto process = start_script("/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(script.number()), folder, before);
  int signal = 0;
  const int status = process ? wait_for_script(process.value(), signals, signal) : 0;
  if (signal != 0) {
    complain(is_there(folder)
                 ? "Interrupted: the Debian image is made, the machine is not."
                 : "Interrupted: the Debian image was not made, and nothing of it was left behind.");
    die_by(signal);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!process) return process.error();
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
