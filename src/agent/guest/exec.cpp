#include "agent/guest/exec.hpp"

#include <sys/signalfd.h>

#include <new>

#include "agent/guest/launch.hpp"
#include "agent/guest/process.hpp"

namespace nacre::agent {
namespace {

class Command {
 public:
  explicit Command(Wire& wire) : wire_(wire) {}
  void run() {
    if (!start()) return;
    wire_.send(Frame::Started);
    sys::set_nonblocking(wire_.file());
    while (!ended_ && !gone_) serve();
    finish();
  }

 private:
  struct Stream {
    int file = -1;
    Frame type = Frame::Output;
  };

  bool start();
  void serve();
  void receive();
  void take();
  void feed();
  void pass_on(Stream& stream);
  void flush();
  void queue(Frame type, const void* bytes, u32 count);
  void reap();
  void finish();
  [[nodiscard]] bool congested() const { return out_bytes_ - out_sent_ > 4 * kDataBytes; }

  Wire& wire_;
  bool terminal_ = false;
  int child_ = 0;
  int in_ = -1;
  int signals_ = -1;
  Stream streams_[2];
  bool ended_ = false, gone_ = false, input_ended_ = false;
  int status_ = 0;

  FrameParser parser_;
  u8 held_[kWindow];
  usize held_bytes_ = 0;
  u8 out_[6 * kDataBytes];
  usize out_bytes_ = 0, out_sent_ = 0;
};

bool Command::start() {
  CommandRequest request;
  Launched launched;
  Failure failure = parse_command(wire_, request);
  if (failure.error == 0) failure = launch(request, launched);
  if (failure.error != 0) {
    const long error = failure.error;
    wire_.send_value(Frame::Failed, static_cast<u32>(error < 0 ? -error : error),
                     {failure.about, sys::length(failure.about) + 1});
    return false;
  }
  terminal_ = request.terminal;
  child_ = launched.process;
  in_ = launched.in;
  signals_ = launched.signals;
  streams_[0] = {launched.out, Frame::Output};
  streams_[1] = {launched.err, Frame::Error};
  return true;
}

void Command::serve() {
  const bool reads = !congested();
  pollfd entries[5] = {
      {wire_.file(), static_cast<short>(POLLIN | (out_sent_ != out_bytes_ ? POLLOUT : 0)), 0},
      {signals_, POLLIN, 0},
      {reads ? streams_[0].file : -1, POLLIN, 0},
      {reads ? streams_[1].file : -1, POLLIN, 0},
      {held_bytes_ != 0 ? in_ : -1, POLLOUT, 0}};
  sys::poll(entries, 5, -1);
  if (entries[0].revents != 0) receive();
  feed();
  for (Stream& stream : streams_) {
    if (reads) pass_on(stream);
  }
  if (entries[1].revents != 0) reap();
  flush();
}

void Command::queue(Frame type, const void* bytes, u32 count) {
  if (out_sent_ != 0) {
    __builtin_memmove(out_, out_ + out_sent_, out_bytes_ - out_sent_);
    out_bytes_ -= out_sent_;
    out_sent_ = 0;
  }
  const Header header = {count, type, 0};
  if (out_bytes_ + sizeof header + count > sizeof out_) return;  // congested() keeps it from being so
  __builtin_memcpy(out_ + out_bytes_, &header, sizeof header);
  if (count != 0) __builtin_memcpy(out_ + out_bytes_ + sizeof header, bytes, count);
  out_bytes_ += sizeof header + count;
}

void Command::flush() {
  while (out_sent_ != out_bytes_) {
    const long written = sys::write(wire_.file(), out_ + out_sent_, out_bytes_ - out_sent_);
    if (written == -EAGAIN || written == -EINTR) return;
    if (written <= 0) {
      gone_ = true;
      return;
    }
    out_sent_ += static_cast<usize>(written);
  }
}

// One read of a stream; at its end it is closed. A terminal without programs is an error of its own: EIO.
void Command::pass_on(Stream& stream) {
  if (stream.file < 0) return;
  u8 bytes[kDataBytes];
  const long got = sys::read(stream.file, bytes, sizeof bytes);
  if (got == -EAGAIN || got == -EINTR) return;
  if (got > 0) return queue(stream.type, bytes, static_cast<u32>(got));
  if (stream.file != in_) sys::close(stream.file);
  stream.file = -1;
}

void Command::receive() {
  FrameParser::Step step;
  while ((step = parser_.read(wire_.file())) == FrameParser::Step::Frame) take();
  gone_ = gone_ || step == FrameParser::Step::Gone;
}

void Command::take() {
  Payload payload(parser_);
  switch (parser_.type()) {
    case Frame::Input:
      if (parser_.bytes() == 0) {
        input_ended_ = true;
      } else if (parser_.bytes() <= sizeof held_ - held_bytes_) {
        __builtin_memcpy(held_ + held_bytes_, parser_.payload(), parser_.bytes());
        held_bytes_ += parser_.bytes();
      } else {
        gone_ = true;  // more than it had credit for
      }
      break;
    case Frame::Resize: {
      const auto size = payload.value<WindowSize>();
      const winsize window = {size.rows, size.columns, 0, 0};
      if (terminal_ && payload.ok()) sys::ioctl(in_, TIOCSWINSZ, &window);
      break;
    }
    case Frame::Signal: {
      const u32 signal = payload.value<u32>();
      if (payload.ok() && signal >= 1 && signal < 65) sys::kill(-child_, static_cast<int>(signal));
      break;
    }
    default:
      break;
  }
}

void Command::feed() {
  if (held_bytes_ != 0) {
    const long written = in_ < 0 ? -EPIPE : sys::write(in_, held_, held_bytes_);
    if (written == -EAGAIN || written == -EINTR) return;
    // A command that has closed its stdin does not want the rest: it is thrown away.
    const usize done = written < 0 ? held_bytes_ : static_cast<usize>(written);
    if (written < 0 && in_ >= 0 && !terminal_) {
      sys::close(in_);
      in_ = -1;
    }
    __builtin_memmove(held_, held_ + done, held_bytes_ - done);
    held_bytes_ -= done;
    const u32 credit = static_cast<u32>(done);
    queue(Frame::Credit, &credit, sizeof credit);
  }
  if (held_bytes_ != 0 || !input_ended_ || in_ < 0) return;
  input_ended_ = false;
  if (terminal_) {
    sys::write(in_, "\x04", 1);  // what the key for the end of a file is, until a program changes it
  } else {
    sys::close(in_);
    in_ = -1;
  }
}

void Command::reap() {
  signalfd_siginfo info;
  while (sys::read(signals_, &info, sizeof info) > 0) {
  }
  for (;;) {
    int status = 0;
    const long process = sys::wait4(-1, &status, WNOHANG);
    if (process <= 0) return;
    if (process != child_) continue;
    ended_ = true;
    status_ = status;
  }
}

// What the command wrote before it ended; what others who have its streams still write is not waited for.
void Command::finish() {
  if (gone_) {  // nobody is there to see: as when a terminal is closed
    sys::kill(-child_, SIGHUP);
    return;
  }
  for (Stream& stream : streams_) {
    while (stream.file >= 0 && !gone_) {
      const usize before = out_bytes_ - out_sent_;
      pass_on(stream);
      if (stream.file >= 0 && out_bytes_ - out_sent_ == before) break;
      flush();
      while (congested() && !gone_) {
        pollfd entry = {wire_.file(), POLLOUT, 0};
        sys::poll(&entry, 1, -1);
        flush();
      }
    }
  }
  const bool killed = (status_ & 0x7f) != 0;
  const u32 code = static_cast<u32>(killed ? status_ & 0x7f : status_ >> 8 & 0xff);
  queue(killed ? Frame::Killed : Frame::Exited, &code, sizeof code);
  while (out_sent_ != out_bytes_ && !gone_) {
    flush();
    pollfd entry = {wire_.file(), POLLOUT, 0};
    if (out_sent_ != out_bytes_) sys::poll(&entry, 1, -1);
  }
}

Command* command;
alignas(Command) u8 command_memory[sizeof(Command)];

}  // namespace

void run_command(Wire& wire) {
  command = new (command_memory) Command(wire);
  command->run();
}

}  // namespace nacre::agent
