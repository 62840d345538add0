#include "app/exec_session.hpp"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "host/fd.hpp"
#include "host/terminal.hpp"

namespace nacre::app {

using agent::Frame;
using agent::FrameParser;

ExecSession::ExecSession(agent::Client& client, const SignalEvents& signals, int in, bool terminal)
    : client_(client),
      signals_(signals),
      in_(in),
      terminal_(terminal),
      out_(STDOUT_FILENO),
      error_(STDERR_FILENO) {
  if (in_ < 0) send(Frame::Input);
}

std::optional<int> ExecSession::run() {
  flush();
  while (!status_ && !gone_ && !left_) {
    const bool reads = in_ >= 0 && credit_ != 0 && pending_.size() < agent::kDataBytes;
    const short wanted = static_cast<short>((stalled_ ? 0 : POLLIN) | (pending_.empty() ? 0 : POLLOUT));
    pollfd entries[4] = {{client_.descriptor(), wanted, 0},
                         {signals_.descriptor(), POLLIN, 0},
                         {reads ? in_ : -1, POLLIN, 0},
                         {-1, POLLOUT, 0}};
    if (stalled_) entries[3] = (parser_.type() == Frame::Output ? out_ : error_).wait_entry();
    poll(entries, 4, -1);
    if (entries[1].revents != 0) handle_signals();
    if (entries[2].revents != 0) read_input();
    if (stalled_ || entries[0].revents != 0) receive();
    flush();
    // As a program in a pipeline would end whose reader is gone.
    if (out_.reader_gone()) return 128 + SIGPIPE;
  }
  return status_;
}

void ExecSession::send(Frame type, const void* bytes, usize count) {
  const agent::Header header = {static_cast<u32>(count), type, 0};
  const auto* start = reinterpret_cast<const u8*>(&header);
  pending_.insert(pending_.end(), start, start + sizeof header);
  const auto* payload = static_cast<const u8*>(bytes);
  if (count != 0) pending_.insert(pending_.end(), payload, payload + count);
}

void ExecSession::flush() {
  usize done = 0;
  while (done < pending_.size()) {
    const ssize_t sent = ::send(client_.descriptor(), pending_.data() + done, pending_.size() - done,
                                MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
      done += static_cast<usize>(sent);
    } else if (errno != EINTR) {
      // Gone: what it has said before may still be read, its end with it.
      if (errno != EAGAIN) done = pending_.size();
      break;
    }
  }
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(done));
}

void ExecSession::read_input() {
  u8 bytes[agent::kDataBytes];
  const ssize_t got = read(in_, bytes, std::min<usize>(sizeof bytes, credit_));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    in_ = -1;
    return send(Frame::Input);
  }
  std::vector<u8> typed(bytes, bytes + got);
  if (terminal_) {
    typed.clear();
    for (ssize_t i = 0; i < got; ++i) {
      const KeyCommand command = keys_.take(bytes[i], typed);
      if (command == KeyCommand::Quit) left_ = true;
      if (command == KeyCommand::Help) {
        constexpr const char* kHelp =
            "\r\nnacre: Ctrl-A x  leave; the command is hung up    Ctrl-A Ctrl-A  send Ctrl-A\r\n";
        host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(kHelp), std::strlen(kHelp)});
      }
    }
  }
  credit_ -= std::min(credit_, typed.size());
  if (!typed.empty()) send(Frame::Input, typed.data(), typed.size());
}

void ExecSession::handle_signals() {
  while (const int signal = signals_.next()) {
    if (signal == SIGWINCH) {
      const host::TerminalSize size = host::terminal_size(STDIN_FILENO);
      const agent::WindowSize sent = {static_cast<u16>(size.rows), static_cast<u16>(size.columns)};
      if (terminal_) send(Frame::Resize, &sent, sizeof sent);
      continue;
    }
    // A command that heeds no signal is not to hold us: the third is ours.
    if (++signals_sent_ > 2) {
      host::RawTerminal::put_back();
      die_by(signal);
    }
    const u32 number = static_cast<u32>(signal);
    send(Frame::Signal, &number, sizeof number);
  }
}

void ExecSession::receive() {
  while (!status_ && !out_.failed()) {
    if (stalled_ && !deliver()) return;
    const FrameParser::Step step = parser_.read(client_.descriptor());
    if (step == FrameParser::Step::Blocked) return;
    if (step == FrameParser::Step::Gone) {
      gone_ = true;
      return;
    }
    take();
  }
}

// The rest of a frame of output. False: not all of it yet.
bool ExecSession::deliver() {
  OutputStream& stream = parser_.type() == Frame::Output ? out_ : error_;
  delivered_ += stream.write_some({parser_.payload() + delivered_, parser_.bytes() - delivered_});
  stalled_ = delivered_ < parser_.bytes();
  return !stalled_;
}

void ExecSession::take() {
  agent::Payload payload(parser_);
  switch (parser_.type()) {
    case Frame::Output:
    case Frame::Error:
      delivered_ = 0;
      stalled_ = true;
      break;
    case Frame::Credit:
      credit_ = std::min<usize>(agent::kWindow, credit_ + payload.value<u32>());
      break;
    case Frame::Exited:
      status_ = static_cast<int>(payload.value<u32>() & 0xff);
      break;
    case Frame::Killed:
      status_ = 128 + static_cast<int>(payload.value<u32>() & 0x7f);
      break;
    default:  // of a guest that is newer, or hostile
      break;
  }
}

}  // namespace nacre::app
