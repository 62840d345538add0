#include "app/guest_assets.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "app/agent/protocol.hpp"
#include "guest/cpio.hpp"
#include "guest/initramfs.hpp"
#include "host/error.hpp"
#include "host/fd.hpp"
#include "host/file_bytes.hpp"

extern "C" const std::byte nacre_agent_image[], nacre_agent_image_end[];  // agent/image.S

namespace nacre::app {
namespace {

constexpr u64 kMostFile = 4 * kGiB - 1;  // of the archive format

std::span<const std::byte> as_bytes(std::span<const u8> bytes) {
  return std::as_bytes(bytes);
}
std::span<const std::byte> as_bytes(const std::string& text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

// The cached one, or the system's when it is static.
Result<std::string> find_busybox() {
  const auto cached = TRY(cached_file("busybox"));
  for (const std::string& path : {cached, std::string("/bin/busybox"), std::string("/usr/bin/busybox")}) {
    if (access(path.c_str(), X_OK) == 0) return path;
  }
  return Error{
      "There is no BusyBox for the guest: run scripts/fetch-guest of the Nacre source, or install "
      "busybox-static."};
}

// What `busybox --list-full` prints.
Result<std::string> applets_of(const std::string& busybox) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return host::errno_error("Cannot make a pipe");
  const host::UniqueFd reader(ends[0]);
  host::UniqueFd writer(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, writer.number(), STDOUT_FILENO);
  char name[] = "busybox", option[] = "--list-full";
  char* words[] = {name, option, nullptr};
  pid_t process = 0;
  const int failed = posix_spawn(&process, busybox.c_str(), &actions, nullptr, words, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return host::error_with_number(failed, "Cannot run", busybox.c_str());
  writer = host::UniqueFd();
  std::string text;
  char buffer[4096];
  for (ssize_t got = 0; (got = read(reader.number(), buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<usize>(got));
  int status = 0;
  waitpid(process, &status, 0);
  if (status != 0 || text.empty())
    return Error(busybox.c_str()).append(" does not work: it cannot list its applets.");
  return text;
}

std::string zero_ended(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text.append(word.c_str(), word.size() + 1);
  return text;
}

Status add_file(guest::CpioWriter& archive, const AddedFile& added) {
  struct stat status = {};
  if (stat(added.host_path.c_str(), &status) != 0)
    return host::errno_error("Cannot read", added.host_path.c_str());
  const auto file = host::FileBytes::read(added.host_path.c_str(), "file", kMostFile, "an archive's most");
  if (!file) return file.error();
  if (archive.file(added.guest_path, status.st_mode & 07777, as_bytes(file.value().bytes()))) return {};
  return Error("Cannot put ")
      .append(added.host_path.c_str())
      .append(" at ")
      .append(added.guest_path.c_str())
      .append(" in the guest: the place is taken.");
}

Status add_shares(guest::CpioWriter& archive, const GuestShares& shares) {
  for (const std::string& path : shares.modules) {
    const std::string in_guest = GuestShares::kModules + path.substr(path.rfind('/') + 1);
    if (archive.contains(in_guest)) continue;  // a network needs some of them too
    if (auto status = add_file(archive, {path, in_guest}); !status) return status.error();
  }
  const bool added = archive.file(channel::kShareScript, 0644, as_bytes(shares.set_up)) &&
                     (shares.directory.empty() || archive.file(channel::kDirectoryFile, 0644, as_bytes(zero_ended({shares.directory}))));
  if (added) return {};
  return Error{"--add may not replace what nacre run itself puts into the guest."};
}

bool add_text(guest::CpioWriter& archive, const char* path, const std::string& text) {
  return archive.file(path, 0644, as_bytes(text));
}

Status add_network(guest::CpioWriter& archive, const GuestNetwork& network) {
  for (const std::string& path : network.modules) {
    const std::string name = path.substr(path.rfind('/') + 1);
    if (auto status = add_file(archive, {path, GuestNetwork::kModules + name}); !status) return status.error();
  }
  // Who adds a resolv.conf means it.
  if (!archive.contains("/etc/resolv.conf") && !add_text(archive, "/etc/resolv.conf", network.resolver))
    return Error{"--add may not make a folder of /etc/resolv.conf."};
  if (add_text(archive, channel::kNetworkScript, network.set_up)) return {};
  return Error{"--add may not replace what nacre run itself puts into the guest."};
}

}  // namespace

Result<std::string> cached_file(const char* name) {
  const char* cache = getenv("XDG_CACHE_HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/nacre/" + name;
  const char* home = getenv("HOME");
  if (home == nullptr || *home == 0)
    return Error{"HOME is not set, so there is no place to look for the guest."};
  return std::string(home) + "/.cache/nacre/" + name;
}

Result<AddedFile> parse_added_file(const std::string& text) {
  const usize colon = text.rfind(':');
  AddedFile added = colon == std::string::npos ? AddedFile{text, text}
                                               : AddedFile{text.substr(0, colon), text.substr(colon + 1)};
  if (added.host_path.empty() || !added.guest_path.starts_with('/')) {
    return Error("\"").append(text.c_str()).append("\" is not what --add takes: HOST-PATH:/GUEST/PATH.");
  }
  return added;
}

Result<std::vector<std::byte>> build_initramfs(const GuestContent& content) {
  const auto busybox_path = TRY(find_busybox());
  const auto busybox = TRY(host::FileBytes::read(busybox_path.c_str(), "program", 64 * kMiB, "a BusyBox"));
  const auto applets = TRY(applets_of(busybox_path));
  guest::CpioWriter archive;
  for (const AddedFile& added : content.files) {
    if (auto status = add_file(archive, added); !status) return status.error();
  }
  if (content.network) {
    if (auto status = add_network(archive, *content.network); !status) return status.error();
  }
  if (content.shares) {
    if (auto status = add_shares(archive, *content.shares); !status) return status.error();
  }
  if (!content.command.empty()) {
    const std::span<const std::byte> agent(nacre_agent_image, nacre_agent_image_end);
    if (!archive.file(channel::kAgentPath, 0755, agent) ||
        !archive.file(channel::kCommandFile, 0644, as_bytes(zero_ended(content.command))) ||
        !archive.file(channel::kEnvironmentFile, 0644, as_bytes(zero_ended(content.environment)))) {
      return Error{"--add may not replace what nacre run itself puts into the guest."};
    }
  }
  if (!guest::add_base_tree(archive, {as_bytes(busybox.bytes()), applets})) {
    return Error{"--add may not replace what nacre run itself puts into the guest."};
  }
  return archive.finish();
}

}  // namespace nacre::app
