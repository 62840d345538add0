#include "app/run_channel.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "app/exit_status.hpp"

namespace nacre::app {

usize RunChannel::output(std::span<const u8> bytes) {
  usize done = 0;
  stalled_ = false;
  while (done < bytes.size() && !stalled_ && !finished_) {
    if (header_ < channel::kHeaderBytes) {
      head_[header_++] = bytes[done++];
      left_ = static_cast<unsigned>(head_[1] | head_[2] << 8);
      small_length_ = 0;
    } else {
      done += take_payload(bytes.subspan(done, std::min<usize>(bytes.size() - done, left_)));
    }
    if (header_ == channel::kHeaderBytes && left_ == 0) {
      header_ = 0;
      take_small({small_, small_length_});
    }
  }
  // Nothing comes after the last frame.
  return finished_ ? bytes.size() : done;
}

usize RunChannel::take_payload(std::span<const u8> bytes) {
  const auto type = static_cast<Frame>(head_[0]);
  usize taken = bytes.size();
  if (type == Frame::Output || type == Frame::Error) {
    taken = (type == Frame::Output ? out_ : error_).write_some(bytes);
    stalled_ = taken < bytes.size();
  } else {
    // Whatever a hostile guest sends: the first bytes are kept, the rest passes by.
    for (const u8 byte : bytes) {
      if (small_length_ < sizeof small_) small_[small_length_++] = byte;
    }
  }
  left_ -= static_cast<unsigned>(taken);
  return taken;
}

// A whole frame that is not a stream's.
void RunChannel::take_small(std::span<const u8> bytes) {
  switch (static_cast<Frame>(head_[0])) {
    case Frame::Ready:
      if (!ready_ && in_ < 0) send(Frame::Input, {});
      ready_ = true;
      break;
    case Frame::Credit:
      if (bytes.size() == 4) {
        const u32 gone =
            static_cast<u32>(bytes[0] | bytes[1] << 8 | bytes[2] << 16) | static_cast<u32>(bytes[3]) << 24;
        credit_ += std::min(gone, channel::kWindow - credit_);
      }
      break;
    case Frame::Exit:
      if (bytes.size() == 2) {
        kind_ = static_cast<channel::ExitKind>(bytes[0]);
        code_ = bytes[1];
        finished_ = true;
      }
      break;
    default:
      break;
  }
}

void RunChannel::input_taken(usize count) {
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<long>(count));
}

void RunChannel::send(Frame type, std::span<const u8> payload) {
  pending_.push_back(static_cast<u8>(type));
  pending_.push_back(static_cast<u8>(payload.size() & 0xff));
  pending_.push_back(static_cast<u8>(payload.size() >> 8));
  pending_.insert(pending_.end(), payload.begin(), payload.end());
}

void RunChannel::wait_for(std::vector<pollfd>& entries) {
  const bool reads = ready_ && in_ >= 0 && credit_ != 0 && pending_.size() < channel::kMostPayload;
  entries.push_back({reads ? in_ : -1, POLLIN, 0});
  if (stalled_) {
    entries.push_back(out_.wait_entry());
    entries.push_back(error_.wait_entry());
  }
}

void RunChannel::ready(std::span<const pollfd> entries) {
  if (entries[0].fd >= 0 && entries[0].revents != 0) read_input();
}

void RunChannel::read_input() {
  u8 bytes[channel::kMostPayload];
  const ssize_t got = read(in_, bytes, std::min<usize>(sizeof bytes, credit_));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    in_ = -1;
    send(Frame::Input, {});
    return;
  }
  credit_ -= static_cast<unsigned>(got);
  send(Frame::Input, {bytes, static_cast<usize>(got)});
}

bool RunChannel::signal(int number) {
  if (number == SIGWINCH) return true;
  if (!ready_ || ++signals_ > 2) return false;
  const u8 byte = static_cast<u8>(number);
  send(Frame::Signal, {&byte, 1});
  return true;
}

int RunChannel::status() const {
  switch (kind_) {
    case channel::ExitKind::Exited:
      return code_;
    case channel::ExitKind::Killed:
      return 128 + (code_ & 0x7f);
    case channel::ExitKind::NotStarted:
      break;
  }
  return RunStatus::nacre_failed;
}

}  // namespace nacre::app
