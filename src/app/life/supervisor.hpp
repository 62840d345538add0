// Supervisor: the process of a machine that runs. It holds the lock, the sockets and the log, and starts the
// guest in a child, again and again while the guest reboots. It touches no guest memory; what reaches it from
// a guest are the bytes of the serial port, which it passes on. One thread. docs/vm-life.md.
#pragma once

#include <sys/types.h>

#include "app/life/attachments.hpp"
#include "app/life/console_hub.hpp"
#include "app/life/control_server.hpp"
#include "app/life/machine_process.hpp"
#include "app/signal_events.hpp"
#include "life/record.hpp"

namespace nacre::app {

class Supervisor {
 public:
  // `ready`: a pipe that hears "ok" when the guest runs, or else the sentence why it does not.
  Supervisor(const life::Folder& folder, const life::MachineConfig& config, life::RunLock lock,
             host::UniqueFd ready, const host::ClockPair& early);
  // The whole life. True: it was one, however it ended; the record has it. An Error: it did not begin.
  Status run();
  [[nodiscard]] const life::Record& record() const { return record_; }

 private:
  Status open();
  void prepare_signals();
  Status start_machine();
  [[noreturn]] void become_machine(int console, int line);
  void serve_until_gone();
  [[nodiscard]] int wait_milliseconds() const;
  void accept_all(const host::UniqueFd& listener, bool is_console);
  void read_console();
  void write_console();
  void read_line();
  void handle_signals();
  void command(char letter);
  void begin_stop(i64 seconds);
  void go_on_stopping();
  void reap();
  // What the child's end means; true: it is started again.
  bool machine_ended();
  void finish();
  void tell_ready(const std::string& text);
  ControlServer::Answer handle(const life::JsonObject& request, ControlServer::Caller caller);
  bool send_to_machine(const life::JsonObject& request, std::span<const host::UniqueFd> files);

  const life::Folder& folder_;
  const life::MachineConfig& config_;
  std::optional<life::RunLock> lock_;
  host::UniqueFd ready_;
  host::ClockPair early_;
  life::Record record_;

  host::UniqueFd signals_, control_listener_, console_listener_;
  std::optional<ConsoleHub> hub_;
  ControlServer control_;
  Attachments attachments_;

  pid_t machine_ = 0;
  int machine_status_ = 0;
  host::UniqueFd console_, line_;  // to the machine
  std::string last_message_;       // "ended …"
  bool gone_ = false;
  bool started_ = false;   // once in this life
  bool stopping_ = false;  // somebody asked
  bool killed_ = false;    // we did it
  u64 kill_at_ns_ = 0;     // CLOCK_MONOTONIC; 0: never
  u64 press_at_ns_ = 0;    // the power button, while kill_at_ns_ is set
  u64 began_ns_ = 0;
};

}  // namespace nacre::app
