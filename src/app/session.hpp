// Session: runs a machine's life from the I/O thread: serial ports to their clients, signals, the time limit.
#pragma once

#include <poll.h>

#include <string>
#include <vector>

#include "app/signal_events.hpp"
#include "vm/vm.hpp"

namespace nacre::app {

// What is at the other end of one serial port. All on the I/O thread.
class SerialClient {
 public:
  virtual ~SerialClient() = default;
  // Takes guest output; returns how much. What is left is offered again.
  virtual usize output(std::span<const u8> bytes) = 0;
  // What waits to go to the guest, and how much of it has gone.
  virtual std::span<const u8> input() = 0;
  virtual void input_taken(usize count) = 0;
  // Descriptors of the host's side to wait for, appended; then what poll(2) found, in the same order.
  virtual void wait_for(std::vector<pollfd>& entries) = 0;
  virtual void ready(std::span<const pollfd> entries) = 0;
  // Anything else that a client does with the machine, each time something has happened.
  virtual void serve(vm::Vm&) {}
  // A signal for the program (SIGINT …). True: dealt with. False: it ends the program.
  virtual bool signal(int) { return false; }
  // False: nothing more can be done for the guest (its output is gone); the life is ended.
  [[nodiscard]] virtual bool usable() const { return true; }
  // Commands of the user to the machine: see EscapeKeys.
  virtual bool take_quit() { return false; }
  virtual bool take_power_button() { return false; }
};

class Session {
 public:
  // `clients` by serial port; seconds of 0 are no limit.
  Session(vm::Vm& vm, const SignalEvents& signals, std::vector<SerialClient*> clients, double seconds);

  enum class Cause : u8 { Guest, TimeLimit, User, Signal, Output };
  struct Outcome {
    Cause cause = Cause::Guest;
    int signal = 0;
    vm::Ending ending;
  };
  // Starts the machine and returns when its life is over and its output is written.
  Result<Outcome> run();
  // A sentence about the last power-on self-test code.
  [[nodiscard]] std::string post_report() const;

 private:
  [[nodiscard]] int wait_milliseconds() const;
  void wait();
  void serve();
  void serve_port(unsigned port);
  void handle_signals();
  void end(Cause cause, int signal = 0);
  void drain();

  vm::Vm& vm_;
  const SignalEvents& signals_;
  std::vector<SerialClient*> clients_;
  u64 limit_ns_ = 0;  // CLOCK_MONOTONIC; 0: none
  double seconds_;
  bool told_stuck_ = false;
  Outcome outcome_;
};

}  // namespace nacre::app
