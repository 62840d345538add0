#include "vsock/listener.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "host/error.hpp"

namespace nacre::vsock {
namespace {

constexpr int kBacklog = 128;

bool address_of(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  return true;
}

Error in_the_way(const std::string& path, const char* option) {
  struct stat found = {};
  if (lstat(path.c_str(), &found) != 0 || !S_ISSOCK(found.st_mode)) {
    return Error("There is a file at ")
        .append(path.c_str())
        .append(" already; ")
        .append(option)
        .append(" makes a socket of its own: name another place.");
  }
  if (connect_to(path)) {
    return Error("Another program listens at ")
        .append(path.c_str())
        .append(": give each guest a path of its own with ")
        .append(option)
        .append(".");
  }
  return Error("There is a socket at ")
      .append(path.c_str())
      .append(" at which nobody listens, left behind by a program that was killed: remove it.");
}

}  // namespace

Result<host::UniqueFd> connect_to(const std::string& path) {
  sockaddr_un address;
  if (!address_of(path, address))
    return host::error_with_number(ENAMETOOLONG, "Cannot connect to", path.c_str());
  host::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return host::errno_error("Cannot make a socket");
  if (connect(socket.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return host::errno_error("Cannot connect to", path.c_str());
  return socket;
}

Result<Listener> Listener::create(const std::string& path, const char* option) {
  if (path.size() > kMostPathBytes) {
    return Error("The path of ")
        .append(option)
        .append(" is ")
        .append_number(path.size())
        .append(" bytes long; a socket's path may have ")
        .append_number(kMostPathBytes)
        .append(": take a shorter one, or one relative to the current directory.");
  }
  sockaddr_un address;
  if (!address_of(path, address))
    return Error(option).append(" wants the path of a socket to make, as in ").append(option).append(" vm.sock.");
  Listener listener;
  listener.socket = host::UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.socket) return host::errno_error("Cannot make a socket");
  const int file = listener.socket.number();
  // The file gets the socket's own permissions, so that there is no moment with others (unix(7) does not say
  // so; Linux has always done it).
  if (fchmod(file, 0600) != 0) return host::errno_error("Cannot set a socket's permissions");
  if (bind(file, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == EADDRINUSE) return in_the_way(path, option);
    return host::errno_error("Cannot make the socket", path.c_str());
  }
  struct stat made = {};
  if (stat(path.c_str(), &made) != 0 || listen(file, kBacklog) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return host::error_with_number(error, "Cannot listen at", path.c_str());
  }
  listener.device = made.st_dev;
  listener.inode = made.st_ino;
  return listener;
}

}  // namespace nacre::vsock
