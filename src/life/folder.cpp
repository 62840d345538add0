#include "life/folder.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "host/error.hpp"

namespace nacre::life {
namespace {

constexpr int kLongestQueue = 16;

Result<std::string> machines_folder() {
  return TRY(data_folder()) + "/vms";
}

struct flock whole_file() {
  struct flock lock = {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  return lock;
}

// The folder by a descriptor, so that 108 bytes are enough for any socket's path.
struct SocketPlace {
  host::UniqueFd folder;
  sockaddr_un address = {};
};
Result<SocketPlace> socket_place(const Folder& folder, const char* name) {
  SocketPlace place;
  place.folder = host::UniqueFd(open(folder.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!place.folder) return host::errno_error("Cannot open", folder.path().c_str());
  place.address.sun_family = AF_UNIX;
  const std::string path = "/proc/self/fd/" + std::to_string(place.folder.number()) + "/" + name;
  path.copy(place.address.sun_path, sizeof place.address.sun_path - 1);
  return place;
}

Error not_running(const Folder& folder) {
  return Error("The machine \"")
      .append(folder.name().c_str())
      .append("\" does not run; nacre start ")
      .append(folder.name().c_str())
      .append(" starts it.");
}

Result<host::UniqueFd> make_socket() {
  host::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return host::errno_error("Cannot make a socket");
  return socket;
}

}  // namespace

Result<std::string> data_folder() {
  const char* data = getenv("XDG_DATA_HOME");
  if (data != nullptr && *data == '/') return std::string(data) + "/nacre";
  const char* home = getenv("HOME");
  if (home == nullptr || *home != '/')
    return Error{"HOME is not set, so there is no place for virtual machines."};
  return std::string(home) + "/.local/share/nacre";
}

Status check_name(const std::string& name) {
  const auto is_plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const auto is_inner = [&](char c) { return is_plain(c) || c == '-' || c == '_' || c == '.'; };
  if (!name.empty() && name.size() <= 63 && is_plain(name.front()) && is_plain(name.back()) &&
      std::all_of(name.begin(), name.end(), is_inner))
    return {};
  return Error("\"")
      .append(name.substr(0, 80).c_str())
      .append("\" cannot be a machine's name: take letters, digits and inside also . _ - (63 at most).");
}

Status make_folders(const std::string& path) {
  for (usize at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST)
      return host::errno_error("Cannot make the folder", part.c_str());
    if (at == std::string::npos) return {};
  }
}

Status replace_file(const std::string& path, const std::string& text) {
  const std::string beside = path + ".new";
  {
    const host::UniqueFd file(open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!file) return host::errno_error("Cannot write", beside.c_str());
    const std::span<const u8> bytes(reinterpret_cast<const u8*>(text.data()), text.size());
    if (!host::write_all(file.number(), bytes) || fsync(file.number()) != 0)
      return host::errno_error("Cannot write", beside.c_str());
  }
  if (rename(beside.c_str(), path.c_str()) != 0) return host::errno_error("Cannot replace", path.c_str());
  return {};
}

Result<std::string> read_file(const std::string& path) {
  const auto file = TRY(host::open_for_reading(path.c_str()));
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t got = read(file.number(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return host::errno_error("Cannot read", path.c_str());
    if (got == 0) return text;
    text.append(buffer, static_cast<usize>(got));
    if (text.size() > kMiB) return Error(path.c_str()).append(" is far too large for what it is.");
  }
}

Result<Folder> Folder::of(const std::string& name) {
  TRY(check_name(name));
  return Folder(name, TRY(machines_folder()) + "/" + name);
}

Result<std::vector<Folder>> Folder::all() {
  const std::string path = TRY(machines_folder());
  std::vector<Folder> folders;
  DIR* open = opendir(path.c_str());
  if (open == nullptr) {
    if (errno == ENOENT) return folders;
    return host::errno_error("Cannot look into", path.c_str());
  }
  while (const dirent* entry = readdir(open)) {
    const std::string name = entry->d_name;
    if (!check_name(name).ok()) continue;  // among them those that are being made or removed: .NAME
    Folder folder(name, path + "/" + name);
    if (folder.exists()) folders.push_back(std::move(folder));
  }
  closedir(open);
  std::sort(folders.begin(), folders.end(),
            [](const Folder& a, const Folder& b) { return a.name() < b.name(); });
  return folders;
}

bool Folder::exists() const {
  return access(config_file().c_str(), F_OK) == 0;
}

Status Folder::check_exists() const {
  if (exists()) return {};
  return Error("There is no machine \"")
      .append(name_.c_str())
      .append("\"; nacre ls shows those there are, nacre create ")
      .append(name_.c_str())
      .append(" makes it.");
}

std::string Folder::file(const std::string& relative) const {
  return relative.starts_with('/') ? relative : path_ + "/" + relative;
}

Result<std::optional<RunLock>> RunLock::try_take(const Folder& folder) {
  const std::string path = folder.file("lock");
  host::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!file) return host::errno_error("Cannot open", path.c_str());
  struct flock lock = whole_file();
  if (fcntl(file.number(), F_OFD_SETLK, &lock) == 0) return std::optional(RunLock(std::move(file)));
  if (errno == EAGAIN || errno == EACCES) return std::optional<RunLock>();
  return host::errno_error("Cannot lock", path.c_str());
}

bool RunLock::is_held(const Folder& folder) {
  const host::UniqueFd file(open(folder.file("lock").c_str(), O_RDWR | O_CLOEXEC));
  struct flock lock = whole_file();
  return file && fcntl(file.number(), F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Result<std::string> short_path(const Folder& folder, const char* name) {
  TRY(folder.check_exists());
  if (!RunLock::is_held(folder)) return not_running(folder);
  const int place = open(folder.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);  // stays open
  if (place < 0) return host::errno_error("Cannot open", folder.path().c_str());
  return "/proc/self/fd/" + std::to_string(place) + "/" + name;
}

// Whoever listens holds the lock: what stands there is of a process that is gone.
Result<host::UniqueFd> listen_at(const Folder& folder, const char* name) {
  const SocketPlace place = TRY(socket_place(folder, name));
  auto socket = TRY(make_socket());
  unlinkat(place.folder.number(), name, 0);
  if (bind(socket.number(), reinterpret_cast<const sockaddr*>(&place.address), sizeof place.address) != 0 ||
      listen(socket.number(), kLongestQueue) != 0 || fcntl(socket.number(), F_SETFL, O_NONBLOCK) != 0)
    return host::errno_error("Cannot listen at", folder.file(name).c_str());
  return socket;
}

Result<host::UniqueFd> connect_to(const Folder& folder, const char* name) {
  const SocketPlace place = TRY(socket_place(folder, name));
  auto socket = TRY(make_socket());
  if (connect(socket.number(), reinterpret_cast<const sockaddr*>(&place.address), sizeof place.address) == 0)
    return socket;
  if (errno == ENOENT || errno == ECONNREFUSED) return not_running(folder);
  return host::errno_error("Cannot reach", folder.file(name).c_str());
}

}  // namespace nacre::life
