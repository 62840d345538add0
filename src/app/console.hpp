// Console: a serial port at the user's terminal, at pipes, at a file, or at nothing.
#pragma once

#include <optional>

#include "app/escape_keys.hpp"
#include "app/output_stream.hpp"
#include "app/session.hpp"
#include "host/terminal.hpp"

namespace nacre::app {

class Console final : public SerialClient {
 public:
  // Reads `in` (-1: nothing to read) and writes `out` (-1: thrown away). When both are a terminal it becomes
  // raw and Ctrl-A commands are understood; otherwise every byte goes through as it is, and the end of the
  // input means nothing to the guest.
  static Result<std::unique_ptr<Console>> create(int in, int out);

  usize output(std::span<const u8> bytes) override;
  std::span<const u8> input() override { return pending_; }
  void input_taken(usize count) override;
  void wait_for(std::vector<pollfd>& entries) override;
  void ready(std::span<const pollfd> entries) override;
  [[nodiscard]] bool usable() const override { return !out_.failed(); }
  bool take_quit() override { return std::exchange(quit_, false); }
  bool take_power_button() override { return std::exchange(power_button_, false); }

  [[nodiscard]] const OutputStream& stream() const { return out_; }
  [[nodiscard]] bool raw() const { return terminal_.has_value(); }
  // Puts the terminal back.
  void close() { terminal_.reset(); }

 private:
  Console(int in, int out) : in_(in), out_(out) {}

  void read_input();
  void typed(u8 byte);

  int in_;  // -1: none, or at its end
  OutputStream out_;
  std::vector<u8> pending_;
  bool stalled_ = false;  // output could not all be written
  EscapeKeys keys_;
  bool quit_ = false, power_button_ = false;
  std::optional<host::RawTerminal> terminal_;
};

}  // namespace nacre::app
