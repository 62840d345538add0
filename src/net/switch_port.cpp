#include "net/switch_port.hpp"

#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "host/error.hpp"

namespace nacre::net {
namespace {

constexpr std::string_view kPrefix = "port-";
constexpr usize kNameBytes = kPrefix.size() + 16;

sockaddr_un address_of(const std::string& folder, std::string_view name) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  folder.copy(address.sun_path, folder.size());
  address.sun_path[folder.size()] = '/';
  name.copy(address.sun_path + folder.size() + 1, name.size());
  return address;
}

bool is_port(std::string_view name) {
  return name.size() == kNameBytes && name.starts_with(kPrefix);
}

std::string new_name() {
  u64 number = 0;
  while (getrandom(&number, sizeof number, 0) != static_cast<ssize_t>(sizeof number)) {
  }
  std::string name(kPrefix);
  for (unsigned i = 0; i < 16; ++i) name += "0123456789abcdef"[number >> (4 * i) & 15];
  return name;
}

// Sockets that nobody listens on any more.
void remove_the_dead(DIR* folder, const std::string& path, int probe) {
  while (const dirent* entry = readdir(folder)) {
    if (!is_port(entry->d_name)) continue;
    const sockaddr_un address = address_of(path, entry->d_name);
    if (connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno == ECONNREFUSED)
      unlink(address.sun_path);
  }
}

u64 mac_number(const u8* mac) {
  u64 number = 0;
  std::memcpy(&number, mac, 6);
  return number;
}

}  // namespace

Result<std::unique_ptr<SwitchPort>> SwitchPort::create(const std::string& folder) {
  if (folder.empty()) return Error("--net switch wants a folder, as in --net switch=/run/user/1000/lan.");
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST)
    return host::errno_error(("Cannot make the folder " + folder + " for a network among guests").c_str());
  char* const resolved = realpath(folder.c_str(), nullptr);
  const std::string path = resolved != nullptr ? resolved : folder;
  free(resolved);  // NOLINT(cppcoreguidelines-no-malloc): realpath's
  if (path.size() + 1 + kNameBytes >= sizeof(sockaddr_un::sun_path)) {
    return Error("The folder's name ")
        .append(path.c_str())
        .append(" is too long for sockets in it: at most 85 letters; take another for --net switch.");
  }
  DIR* const open_folder = opendir(path.c_str());
  if (open_folder == nullptr)
    return host::errno_error(("Cannot use " + folder + " as the folder of a network among guests").c_str());
  host::UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  std::unique_ptr<SwitchPort> port(new SwitchPort(std::move(socket), open_folder, path, new_name()));
  if (!port->socket_) return host::errno_error("Cannot make a socket");
  const host::UniqueFd probe(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  remove_the_dead(open_folder, path, probe.number());
  const sockaddr_un address = address_of(path, port->name_);
  if (bind(port->socket_.number(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return host::errno_error(("Cannot make a socket in " + folder).c_str());
  return port;
}

SwitchPort::~SwitchPort() {
  closedir(folder_);
}

SwitchPort::Sent SwitchPort::send_to(const std::string& name, usize bytes) {
  const sockaddr_un address = address_of(path_, name);
  if (sendto(socket_.number(), message_, bytes, MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
             sizeof address) >= 0)
    return Sent::Yes;
  return errno == EAGAIN || errno == ENOBUFS || errno == EINTR ? Sent::Full : Sent::Gone;
}

void SwitchPort::send_to_all(usize bytes) {
  rewinddir(folder_);
  while (const dirent* entry = readdir(folder_)) {
    // What is said to all may be lost to some.
    if (is_port(entry->d_name) && entry->d_name != name_) static_cast<void>(send_to(entry->d_name, bytes));
  }
}

bool SwitchPort::send(const Header& header, const virtio::Segment* pieces, unsigned count, unsigned) {
  Header clean = header;
  clean.buffers = 0;
  std::memcpy(message_, &clean, sizeof clean);
  const usize bytes = sizeof clean + gather(pieces, count, message_ + sizeof clean);
  const u8* const target = message_ + sizeof clean;
  const auto found = learned_.find(mac_number(target));
  if (found == learned_.end()) {
    send_to_all(bytes);
    return true;
  }
  switch (send_to(found->second, bytes)) {
    case Sent::Yes:
      break;
    case Sent::Full:
      if (++waited_ <= kPatience) return false;
      break;
    case Sent::Gone:  // perhaps it is back under another name
      learned_.erase(found);
      send_to_all(bytes);
      break;
  }
  waited_ = 0;
  return true;
}

// Only names as ours are sent to: a sender can call itself anything.
void SwitchPort::learn(const u8* mac, const sockaddr_un& from, usize length) {
  constexpr usize kBefore = offsetof(sockaddr_un, sun_path);
  if ((mac[0] & 1) != 0 || length <= kBefore) return;
  const std::string_view path(from.sun_path, strnlen(from.sun_path, length - kBefore));
  if (path.size() != path_.size() + 1 + kNameBytes || !path.starts_with(path_)) return;
  const std::string_view name = path.substr(path_.size() + 1);
  if (path[path_.size()] != '/' || !is_port(name) || name == name_) return;
  if (learned_.size() >= kMostLearned) learned_.clear();
  learned_[mac_number(mac)] = name;
}

usize SwitchPort::receive(u8* to, Header& header, unsigned&) {
  while (!intake_.waiting()) {
    if (!readable_) return 0;
    Header got;
    sockaddr_un from = {};
    iovec parts[] = {{&got, sizeof got}, {intake_.buffer(), kMostPacket}};
    msghdr message = {};
    message.msg_name = &from;
    message.msg_namelen = sizeof from;
    message.msg_iov = parts;
    message.msg_iovlen = 2;
    const ssize_t bytes = recvmsg(socket_.number(), &message, 0);
    if (bytes < 0) {
      if (errno == EINTR) continue;
      readable_ = false;
      return 0;
    }
    if (bytes < static_cast<ssize_t>(sizeof got + kEthernetBytes) || (message.msg_flags & MSG_TRUNC) != 0)
      continue;
    learn(intake_.buffer() + 6, from, message.msg_namelen);
    intake_.accept(got, static_cast<usize>(bytes) - sizeof got, offloads_);
  }
  return intake_.next(to, header);
}

int SwitchPort::wait_for(std::vector<pollfd>& descriptors) {
  descriptors.push_back({socket_.number(), static_cast<short>(readable_ ? 0 : POLLIN), 0});
  return waited_ != 0 ? 1 : -1;
}

void SwitchPort::happened(std::span<const pollfd> descriptors) {
  if ((descriptors[0].revents & POLLIN) != 0) readable_ = true;
}

}  // namespace nacre::net
