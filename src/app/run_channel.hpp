// RunChannel: the host's end of the channel of `nacre run`: the command's standard streams, its signals and
// its status, on the second serial port. docs/adr/0004-run-channel.md. On the I/O thread.
#pragma once

#include <vector>

#include "app/agent/protocol.hpp"
#include "app/output_stream.hpp"
#include "app/session.hpp"

namespace nacre::app {

class RunChannel final : public SerialClient {
 public:
  // in: -1 for no input (the command's stdin is at its end from the start).
  RunChannel(int in, int out, int error) : in_(in), out_(out), error_(error) {}

  usize output(std::span<const u8> bytes) override;
  std::span<const u8> input() override { return pending_; }
  void input_taken(usize count) override;
  void wait_for(std::vector<pollfd>& entries) override;
  void ready(std::span<const pollfd> entries) override;
  // SIGINT, SIGTERM, SIGHUP and SIGQUIT go to the command; the third one is for nacre itself.
  bool signal(int number) override;
  // Once the command has ended there is nothing to wait for.
  bool take_quit() override { return finished_; }

  [[nodiscard]] bool finished() const { return finished_; }
  // The command's, as a shell would have it; after finished().
  [[nodiscard]] int status() const;

 private:
  using Frame = channel::Frame;

  usize take_payload(std::span<const u8> bytes);
  void take_small(std::span<const u8> bytes);
  void read_input();
  void send(Frame type, std::span<const u8> payload);

  int in_;
  OutputStream out_, error_;
  bool ready_ = false, finished_ = false;
  bool stalled_ = false;  // a stream could not take all
  unsigned credit_ = channel::kWindow;
  unsigned signals_ = 0;
  std::vector<u8> pending_;  // frames on their way to the guest

  u8 head_[channel::kHeaderBytes] = {};
  unsigned header_ = 0, left_ = 0;
  u8 small_[4] = {};
  unsigned small_length_ = 0;
  channel::ExitKind kind_ = channel::ExitKind::NotStarted;
  u8 code_ = 0;
};

}  // namespace nacre::app
