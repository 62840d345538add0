#include "vm/hosted_environment.hpp"

#include <sys/random.h>
#include <time.h>

#include "vm/trace.hpp"

namespace nacre::vm {

u64 HostedEnvironment::wall_clock() {
  timespec time = {};
  clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<u64>(time.tv_sec) * 1'000'000'000 + static_cast<u64>(time.tv_nsec);
}

// From the kernel, 8 bytes at a time: the guest's entropy must be as good as ours.
u64 HostedEnvironment::random() {
  u64 value = 0;
  while (getrandom(&value, sizeof value, 0) != static_cast<ssize_t>(sizeof value)) {
  }
  return value;
}

void HostedEnvironment::kick(unsigned processor) {
  if (processor >= processors_) return;
  links_[processor].interrupt_hint.store(true);
  kicks_ |= u32{1} << processor;
}

void HostedEnvironment::non_maskable(unsigned processor) {
  if (processor >= processors_) return;
  // Whoever takes them takes all.
  if (links_[processor].non_maskable.load() < 2) ++links_[processor].non_maskable;
  kicks_ |= u32{1} << processor;
}

void HostedEnvironment::init(unsigned processor) {
  if (processor >= processors_) return;
  // What came before is lost in the reset.
  links_[processor].start_up.store(-1);
  links_[processor].non_maskable.store(0);
  links_[processor].unhalted.store(false);
  links_[processor].init.store(true);
  kicks_ |= u32{1} << processor;
}

void HostedEnvironment::start_up(unsigned processor, u8 page) {
  if (processor >= processors_) return;
  links_[processor].start_up.store(page);
  kicks_ |= u32{1} << processor;
}

void HostedEnvironment::unhalt(unsigned processor) {
  if (processor >= processors_) return;
  links_[processor].unhalted.store(true);
  wakes_ |= u32{1} << processor;
}

void HostedEnvironment::power_event(board::PowerEvent event) {
  using Kind = board::PowerEvent::Kind;
  switch (event.kind) {
    case Kind::PowerOff:
      return end(Ending::Kind::PowerOff);
    case Kind::Reset:
      return end(Ending::Kind::Reset);
    case Kind::Panic:
      return end(Ending::Kind::Panic);
    case Kind::DebugExit:
      return end(Ending::Kind::DebugExit, event.code);
    case Kind::Sleep:
      return;  // no sleeping state is offered: nothing happens, as on a board without it
  }
}

void HostedEnvironment::end(Ending::Kind kind, u32 code) {
  if (ending_claimed_.exchange(true)) return;
  code_ = code;
  kind_.store(kind);
  for (unsigned i = 0; i < processors_; ++i) links_[i].kick();
  drained_.fetch_add(1);
  host::futex_wake(drained_, 1 << 30);
  attention_.raise();
}

void HostedEnvironment::serial_output(unsigned port, u8 byte) {
  if (port < kSerialPorts) put_output(port, byte);
}

void HostedEnvironment::post_code(u8 code) {
  post_code_.store(code);
  if (post_trace_ != nullptr) post_trace_->post(code);
  if (code == last_post_) end(Ending::Kind::PowerOff);
}

void HostedEnvironment::put_output(unsigned ring, u8 byte) {
  // Full only when a guest writes on while the I/O thread is stuck: congested() has held it up before that,
  // but for bytes within one call of the board.
  static_cast<void>(output_[ring].put(byte));
  attention_.raise();
}

void HostedEnvironment::serial_input_room(unsigned port) {
  if (port < kSerialPorts) input_room_[port] = true;
}

bool HostedEnvironment::all_deaf() const {
  for (unsigned i = 0; i < processors_; ++i) {
    if (!links_[i].deaf || links_[i].is_signalled()) return false;
  }
  return true;
}

bool HostedEnvironment::congested() const {
  for (const OutputRing& ring : output_) {
    if (ring.size() > kSerialCongestion) return true;
  }
  return false;
}

}  // namespace nacre::vm
