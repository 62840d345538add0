// ControlServer: the connections to control.sock, and their requests as lines of JSON. docs/vm-life.md has
// the protocol. Owned by the supervisor's thread.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "host/fd.hpp"
#include "life/json.hpp"

namespace nacre::app {

class ControlServer {
 public:
  using Answer = std::optional<life::JsonObject>;  // nothing: it comes with answer_waiting()
  explicit ControlServer(std::function<Answer(const life::JsonObject&)> handle)
      : handle_(std::move(handle)) {}

  void add(host::UniqueFd connection) { connections_.push_back({std::move(connection), {}, false, false}); }
  void wait_for(std::vector<pollfd>& entries) const;
  void ready(std::span<const pollfd> entries);
  // Who has been promised an answer.
  void answer_waiting(const life::JsonObject& answer);

 private:
  struct Connection {
    host::UniqueFd socket;
    std::string text;
    bool waits = false, over = false;
  };
  void read_from(Connection& connection);
  void take_line(Connection& connection, std::string_view line);
  static void send(Connection& connection, const life::JsonObject& answer);

  std::function<Answer(const life::JsonObject&)> handle_;
  std::vector<Connection> connections_;
};

}  // namespace nacre::app
