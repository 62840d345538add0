// The control socket of a machine without a name (nacre boot --control): a process beside the machine's
// answers there, as a named machine's supervisor does at control.sock, but for what is the supervisor's
// alone. The machine's process is confined and accepts nobody. It ends, and removes the socket, when the
// machine's process is gone.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "app/life/machine_line.hpp"
#include "app/session.hpp"

namespace nacre::app {

class Control {
 public:
  // While there is one thread. An Error: there can be no socket at `path`.
  static Result<std::unique_ptr<Control>> start(const std::string& path, unsigned slots);
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;
  // Returns when the socket is gone.
  ~Control();
  // The machine's end.
  [[nodiscard]] int line() const { return line_.number(); }

 private:
  Control(host::UniqueFd line, pid_t process) : line_(std::move(line)), process_(process) {}

  host::UniqueFd line_;
  const pid_t process_;
};

// A serial port whose machine has such a line.
class ControlledPort final : public SerialClient {
 public:
  ControlledPort(SerialClient& port, int line) : port_(port), line_(line) {}

  usize output(std::span<const u8> bytes) override { return port_.output(bytes); }
  std::span<const u8> input() override { return port_.input(); }
  void input_taken(usize count) override { port_.input_taken(count); }
  void wait_for(std::vector<pollfd>& entries) override {
    entries.push_back(line_.wait_entry());
    port_.wait_for(entries);
  }
  void ready(std::span<const pollfd> entries) override {
    if (entries[0].revents != 0) line_.read();
    port_.ready(entries.subspan(1));
  }
  void serve(vm::Vm& vm) override {
    port_.serve(vm);
    line_.serve(vm);
  }
  bool signal(int number) override { return port_.signal(number); }
  [[nodiscard]] bool usable() const override { return port_.usable(); }
  bool take_quit() override { return port_.take_quit(); }
  bool take_power_button() override { return line_.take_power_button() || port_.take_power_button(); }

 private:
  SerialClient& port_;
  MachineLine line_;
};

}  // namespace nacre::app
