#include "app/life/console_hub.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "host/error.hpp"

namespace nacre::app {
namespace {

constexpr u64 kMostLog = 16 * kMiB;  // then it becomes console.log.1
constexpr usize kMostLast = 4096;
constexpr usize kMostWaiting = kMiB;  // of one connection
constexpr usize kMostInput = 4096;

}  // namespace

Result<ConsoleHub> ConsoleHub::create(const life::Folder& folder) {
  const std::string path = folder.console_log();
  host::UniqueFd log(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log) return host::errno_error("Cannot write", path.c_str());
  ConsoleHub hub(std::move(log), path);
  struct stat status = {};
  if (fstat(hub.log_.number(), &status) == 0) hub.log_bytes_ = static_cast<u64>(status.st_size);
  return hub;
}

void ConsoleHub::add(host::UniqueFd connection) {
  connections_.push_back({std::move(connection), last_, false});
  connections_.back().send();
}

void ConsoleHub::Connection::send() {
  while (!waiting.empty()) {
    const ssize_t sent = ::send(socket.number(), waiting.data(), waiting.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) over = over || errno != EAGAIN;
    if (sent < 0) return;
    waiting.erase(0, static_cast<usize>(sent));
  }
}

void ConsoleHub::output(std::span<const u8> bytes) {
  write_log(bytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  last_.append(text);
  if (last_.size() > 2 * kMostLast) last_.erase(0, last_.size() - kMostLast);
  for (Connection& connection : connections_) {
    connection.waiting.append(text);
    connection.send();
    if (connection.waiting.size() > kMostWaiting) connection.over = true;
  }
}

void ConsoleHub::write_log(std::span<const u8> bytes) {
  if (log_bytes_ + bytes.size() > kMostLog) {
    rename(path_.c_str(), (path_ + ".1").c_str());
    log_ = host::UniqueFd(open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600));
    log_bytes_ = 0;
  }
  // A full disk costs the log, not the machine.
  if (log_) host::write_all(log_.number(), bytes);
  log_bytes_ += bytes.size();
}

void ConsoleHub::wait_for(std::vector<pollfd>& entries) const {
  for (const Connection& connection : connections_) {
    const int reads = input_.size() < kMostInput ? POLLIN : 0;
    const int writes = connection.waiting.empty() ? 0 : POLLOUT;
    entries.push_back({connection.socket.number(), static_cast<short>(reads | writes), 0});
  }
}

void ConsoleHub::ready(std::span<const pollfd> entries) {
  for (usize i = 0; i < entries.size() && i < connections_.size(); ++i) {
    if ((entries[i].revents & POLLOUT) != 0) connections_[i].send();
    if ((entries[i].revents & POLLIN) != 0) read_from(connections_[i]);
    // It may have gone without our reading: there is no room for its input.
    if ((entries[i].revents & (POLLERR | POLLHUP)) != 0 && (entries[i].revents & POLLIN) == 0)
      connections_[i].over = true;
  }
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [](const Connection& one) { return one.over; }),
                     connections_.end());
}

void ConsoleHub::read_from(Connection& connection) {
  u8 bytes[1024];
  const ssize_t got = recv(connection.socket.number(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got > 0) input_.insert(input_.end(), bytes, bytes + got);
  if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN)) connection.over = true;
}

}  // namespace nacre::app
