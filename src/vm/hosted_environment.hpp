// HostedEnvironment: what the board needs, from Linux: time from the TSC, randomness from the processor,
// bytes to the thread that does input and output, kicks to the vCPU threads.
//
// Threads: the board calls it under the VM's lock, mostly on a vCPU's thread while vector registers hold the
// guest's values: this file is compiled to general registers only and calls nothing that uses others.
// What it cannot do inside a call of the board (which may not be entered again) it notes; BoardGuard
// (vm/machine.hpp) does it before the lock is released.
#pragma once

#include <array>
#include <atomic>

#include "board/board.hpp"
#include "engine/engine.hpp"
#include "host/tsc_clock.hpp"
#include "vm/attention.hpp"
#include "vm/byte_ring.hpp"
#include "vm/ending.hpp"
#include "vm/processor_wake.hpp"

namespace nacre::vm {

inline constexpr unsigned kSerialPorts = 2;
inline constexpr unsigned kDebugPorts = board::kMaxDebugPorts;
inline constexpr usize kSerialOutputBytes = 64 * kKiB;
inline constexpr usize kSerialInputBytes = 16 * kKiB;
// Fuller than this, the vCPU that writes waits for the I/O thread, outside the lock.
inline constexpr usize kSerialCongestion = kSerialOutputBytes / 2;

// A vCPU as others see it. `pending`: something may be deliverable; asked without the lock.
struct ProcessorLink {
  std::atomic<engine::Vcpu*> vcpu = nullptr;
  std::atomic<bool> interrupt_hint = false;
  std::atomic<unsigned> non_maskable = 0;  // how many came, up to two: State::nmi_pending
  std::atomic<bool> init = false;
  std::atomic<bool> unhalted = false;
  std::atomic<int> start_up = -1;  // page
  std::atomic<bool> deaf = false;  // asleep, and no interrupt would wake it
  ProcessorWake wake;

  void kick() {
    engine::Vcpu* target = vcpu.load();
    if (!wake.wake() && target != nullptr) target->kick();
  }
  [[nodiscard]] bool is_signalled() const { return non_maskable != 0 || init || unhalted || start_up >= 0; }
};

class Trace;

class HostedEnvironment final : public board::Environment {
 public:
  HostedEnvironment(const host::TscClock& clock, Attention& attention, unsigned processors)
      : clock_(clock), attention_(attention), processors_(processors) {}

  u64 now() override { return clock_.now(); }
  u64 wall_clock() override;
  u64 tsc() override { return clock_.tsc(); }
  time::Instant instant() override {
    const u64 count = clock_.tsc();
    return {count, clock_.at(count)};
  }
  u64 random() override;

  void kick(unsigned processor) override;
  void non_maskable(unsigned processor) override;
  void init(unsigned processor) override;
  void start_up(unsigned processor, u8 page) override;
  void unhalt(unsigned processor) override;
  void deadline_moved(unsigned processor) override { deadlines_moved_ |= u32{1} << processor; }
  void power_event(board::PowerEvent event) override;
  void serial_output(unsigned port, u8 byte) override;
  void serial_input_room(unsigned port) override;
  void debug_output(unsigned which, u8 byte) override { put_output(kSerialPorts + which, byte); }
  void post_code(u8 code) override;

  // Under the lock, each once: the processors that deadline_moved() was called for, and those to be kicked,
  // as bit sets. Kicks are system calls: they are made when the lock is free again, which is what the kicked
  // will want first.
  [[nodiscard]] u32 take_deadlines_moved() {
    const u32 moved = deadlines_moved_;
    deadlines_moved_ = 0;
    return moved;
  }
  [[nodiscard]] u32 take_kicks() {
    const u32 kicks = kicks_;
    kicks_ = 0;
    return kicks;
  }
  // Those to be woken if they sleep, and left alone if they do not.
  [[nodiscard]] u32 take_wakes() {
    const u32 wakes = wakes_;
    wakes_ = 0;
    return wakes;
  }

  // Ends the VM's life, unless it has ended already: the first reason counts. Any thread.
  void end(Ending::Kind kind, u32 code = 0);
  [[nodiscard]] Ending::Kind ended() const { return kind_.load(); }
  [[nodiscard]] u32 ending_code() const { return code_; }

  // The serial ports' first, then the debug ports'.
  using OutputRing = ByteRing<kSerialOutputBytes>;
  [[nodiscard]] OutputRing& output(unsigned port) { return output_[port]; }
  // Set by the I/O thread when it is done with a congested ring; where the vCPU thread waits for that.
  [[nodiscard]] std::atomic<u32>& drained() { return drained_; }
  [[nodiscard]] bool congested() const;
  // Input on its way to a serial port: filled by the I/O thread, emptied into the port by whoever holds the
  // lock (BoardGuard), so that the next bytes are there when the guest has taken the last, without a change
  // of threads.
  using InputRing = ByteRing<kSerialInputBytes>;
  [[nodiscard]] InputRing& input(unsigned port) { return input_[port]; }
  // Under the lock: true once after serial_input_room(port).
  [[nodiscard]] bool take_input_room(unsigned port) {
    const bool room = input_room_[port];
    input_room_[port] = false;
    return room;
  }
  // The I/O thread found a ring full and wants to be told when it no longer is.
  void want_input_space() { input_space_wanted_.store(true); }
  void tell_input_space() {
    if (input_space_wanted_.load() && input_space_wanted_.exchange(false)) attention_.raise();
  }

  // The last power-on self-test code; less than 0: none yet.
  [[nodiscard]] int last_post_code() const { return post_code_.load(); }
  // A code that ends the machine, as PowerOff. Before it runs.
  void end_at_post_code(u8 code) { last_post_ = code; }
  // Who is told of codes; null: nobody. Before the machine runs.
  void trace_post_codes(Trace* trace) { post_trace_ = trace; }

  void call_input_output() { attention_.raise(); }

  [[nodiscard]] unsigned processors() const { return processors_; }
  [[nodiscard]] ProcessorLink& processor(unsigned i) { return links_[i]; }
  // All halted so that nothing but a reset would wake them. Under the lock.
  [[nodiscard]] bool all_deaf() const;
  [[nodiscard]] const host::TscClock& clock() const { return clock_; }

 private:
  void put_output(unsigned ring, u8 byte);

  const host::TscClock& clock_;
  Attention& attention_;
  unsigned processors_;
  std::array<ProcessorLink, board::kMaxProcessors> links_;
  std::array<OutputRing, kSerialPorts + kDebugPorts> output_;
  std::array<InputRing, kSerialPorts> input_;
  std::array<bool, kSerialPorts> input_room_ = {};  // under the lock
  std::atomic<bool> input_space_wanted_ = false;
  std::atomic<u32> drained_ = 0;
  Trace* post_trace_ = nullptr;
  int last_post_ = -1;
  std::atomic<int> post_code_ = -1;
  u32 deadlines_moved_ = 0, kicks_ = 0, wakes_ = 0;  // under the lock

  std::atomic<bool> ending_claimed_ = false;
  u32 code_ = 0;  // before kind_
  std::atomic<Ending::Kind> kind_ = Ending::Kind::None;
};

}  // namespace nacre::vm
