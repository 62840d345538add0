// ExecSession: a command in a guest, between the user's terminal or pipes and the agent. On the main thread.
#pragma once

#include <optional>
#include <vector>

#include "agent/client.hpp"
#include "app/escape_keys.hpp"
#include "app/output_stream.hpp"
#include "app/signal_events.hpp"

namespace nacre::app {

class ExecSession {
 public:
  // `client` has started the command. in: -1 for none. `terminal`: the command has one, and `in` is the
  // user's, raw.
  ExecSession(agent::Client& client, const SignalEvents& signals, int in, bool terminal);

  // Until the command has ended. Its status, 128 + N when signal N killed it; nothing: the guest is gone, or
  // the user has left with Ctrl-A x.
  std::optional<int> run();
  [[nodiscard]] bool left() const { return left_; }

 private:
  void send(agent::Frame type, const void* bytes = nullptr, usize count = 0);
  void flush();
  void read_input();
  void receive();
  void take();
  bool deliver();
  void handle_signals();

  agent::Client& client_;
  const SignalEvents& signals_;
  int in_;
  const bool terminal_;
  OutputStream out_, error_;
  EscapeKeys keys_;
  agent::FrameParser parser_;
  std::vector<u8> pending_;  // frames on their way to the guest
  usize credit_ = agent::kWindow;
  usize delivered_ = 0;   // of the frame in parser_
  bool stalled_ = false;  // a stream has not taken all of it yet
  bool gone_ = false, left_ = false;
  unsigned signals_sent_ = 0;
  std::optional<int> status_;
};

}  // namespace nacre::app
