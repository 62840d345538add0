#include "app/life/control_server.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "host/passed_files.hpp"

namespace nacre::app {
namespace {

constexpr usize kLongestLine = 8192;

}  // namespace

void ControlServer::wait_for(std::vector<pollfd>& entries) const {
  for (const Connection& connection : connections_)
    entries.push_back({connection.socket.number(), POLLIN, 0});
}

void ControlServer::ready(std::span<const pollfd> entries) {
  for (usize i = 0; i < entries.size() && i < connections_.size(); ++i) {
    if (entries[i].revents != 0) read_from(connections_[i]);
  }
  connections_.erase(std::remove_if(connections_.begin(), connections_.end(),
                                    [](const Connection& one) { return one.over; }),
                     connections_.end());
}

void ControlServer::read_from(Connection& connection) {
  u8 bytes[1024];
  const ssize_t got =
      host::receive_with_files(connection.socket.number(), bytes, connection.files, MSG_DONTWAIT);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    connection.over = true;
    return;
  }
  connection.text.append(reinterpret_cast<const char*>(bytes), static_cast<usize>(got));
  for (usize end; (end = connection.text.find('\n')) != std::string::npos;) {
    take_line(connection, std::string_view(connection.text).substr(0, end));
    connection.text.erase(0, end + 1);
  }
  if (connection.text.size() > kLongestLine || connection.files.size() > host::kMostPassedFiles)
    connection.over = true;
}

void ControlServer::take_line(Connection& connection, std::string_view line) {
  const auto request = life::JsonObject::parse(line);
  if (!request)
    return send(connection, life::JsonObject().set("ok", false).set("error", "This is not a JSON object."));
  if (const Answer answer = handle_(*request, {connection.id, std::exchange(connection.files, {})}))
    return send(connection, *answer);
  connection.waits = true;
}

// Answers are short: a connection that has no room for one does not read, and is closed.
void ControlServer::send(Connection& connection, const life::JsonObject& answer) {
  const std::string line = answer.line() + "\n";
  const ssize_t sent =
      ::send(connection.socket.number(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent != static_cast<ssize_t>(line.size())) connection.over = true;
}

void ControlServer::answer(u64 caller, const life::JsonObject& answer) {
  for (Connection& connection : connections_) {
    if (connection.id == caller && std::exchange(connection.waits, false)) send(connection, answer);
  }
}

void ControlServer::answer_waiting(const life::JsonObject& answer) {
  for (Connection& connection : connections_) {
    if (std::exchange(connection.waits, false)) send(connection, answer);
  }
}

}  // namespace nacre::app
