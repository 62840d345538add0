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
  using Answer = std::optional<life::JsonObject>;  // nothing: it comes with answer() or answer_waiting()
  // Who asks, and the files that came with it.
  struct Caller {
    u64 id;
    std::vector<host::UniqueFd> files;
  };
  explicit ControlServer(std::function<Answer(const life::JsonObject&, Caller)> handle)
      : handle_(std::move(handle)) {}

  void add(host::UniqueFd connection) {
    connections_.push_back({std::move(connection), next_id_++, {}, {}, false, false});
  }
  void wait_for(std::vector<pollfd>& entries) const;
  void ready(std::span<const pollfd> entries);
  // One that has been promised an answer, unless it has left; all of them.
  void answer(u64 caller, const life::JsonObject& answer);
  void answer_waiting(const life::JsonObject& answer);

 private:
  struct Connection {
    host::UniqueFd socket;
    u64 id;
    std::string text;
    std::vector<host::UniqueFd> files;
    bool waits = false, over = false;
  };
  void read_from(Connection& connection);
  void take_line(Connection& connection, std::string_view line);
  static void send(Connection& connection, const life::JsonObject& answer);

  std::function<Answer(const life::JsonObject&, Caller)> handle_;
  u64 next_id_ = 1;
  std::vector<Connection> connections_;
};

}  // namespace nacre::app
