// Machine: the board, the lock for it, and what must happen when a call into it is over. And the Platform
// through which one vCPU reaches it.
// Compiled to general registers only: vCPU threads come here while vector registers hold the guest's values.
#pragma once

#include <atomic>

#include "board/board.hpp"
#include "engine/context.hpp"
#include "engine/counter.hpp"
#include "host/kick_timer.hpp"
#include "host/plain_lock.hpp"
#include "vm/dma_tracker.hpp"
#include "vm/gate.hpp"
#include "vm/hosted_environment.hpp"
#include "vm/trace.hpp"

namespace nacre::vm {

// Lock order: the gate before `lock`. Nothing is taken while `lock` is held.
struct Machine {
  Machine(const board::Options& options, HostedEnvironment& host)
      : environment(host), board(options, host), dma(host, options.processors) {}

  HostedEnvironment& environment;
  board::Board board;  // guarded by `lock`
  host::PlainLock lock;
  Gate gate;
  DmaTracker dma;
  engine::Group* group = nullptr;  // of the engine; null: it has none. Before any processor runs

  // What kicks a vCPU when a deadline that it keeps for the board passes (processor 0: the chipset's too),
  // and the earliest instant it has been promised (environment time). Guarded by `lock`; null until the
  // vCPU's thread runs.
  struct Timer {
    const host::KickTimer* timer = nullptr;
    u64 armed = board::kNever;
    std::atomic<bool> fired = false;  // set by its signal; what was armed is no more
  };
  std::array<Timer, board::kMaxProcessors> timers;
};

// Holds the board. Before it lets go, serial ports that have room get the input that waits for them, and the
// timers are set whose deadlines have become earlier; afterwards, those are kicked who should look around.
class BoardGuard {
 public:
  explicit BoardGuard(Machine& machine) : machine_(machine) { machine_.lock.lock(); }
  BoardGuard(const BoardGuard&) = delete;
  BoardGuard& operator=(const BoardGuard&) = delete;
  ~BoardGuard() {
    for (unsigned port = 0; port < kSerialPorts; ++port) {
      if (machine_.environment.take_input_room(port)) feed(port);
    }
    const u32 moved = machine_.environment.take_deadlines_moved();
    if (moved != 0) arm_timers(moved);
    const u32 kicks = machine_.environment.take_kicks();
    const u32 wakes = machine_.environment.take_wakes();
    machine_.lock.unlock();
    if (kicks != 0) kick(kicks);
    if (wakes != 0) wake(wakes);
  }

  board::Board* operator->() { return &machine_.board; }
  // Lets a processor's timers fire that are due, and sets the host's timer for its next.
  void advance(unsigned processor);
  // Gives a serial port of the input that waits for it what it can take.
  void feed(unsigned port);

 private:
  void arm_timer(unsigned processor);
  void arm_timers(u32 processors);
  void kick(u32 processors);
  void wake(u32 processors);

  Machine& machine_;
};

// What a processor has asked of the machine, whatever engine it has: in the soft engines these are the exits.
struct ProcessorCounters {
  engine::Counter port, memory, doorbell, msr, hypercall, interrupt, kick, sleep;
  static constexpr const char* kNames[] = {"ports", "device memory", "doorbells", "board msrs", "hypercalls", "interrupts taken", "kicks", "sleeps"};
  [[nodiscard]] std::array<const engine::Counter*, 8> all() const {
    return {&port, &memory, &doorbell, &msr, &hypercall, &interrupt, &kick, &sleep};
  }
};

class GuardedPlatform final : public cpu::Platform {
 public:
  [[nodiscard]] ProcessorCounters& counters() { return counters_; }
  GuardedPlatform(Machine& machine, unsigned processor, Trace* trace)
      : machine_(machine),
        link_(machine.environment.processor(processor)),
        processor_(processor),
        trace_(trace) {}

  u64 mmio_read(GuestPhysical address, unsigned size) override;
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override;
  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;
  bool interrupt_pending() override {
    return link_.interrupt_hint.load(std::memory_order_relaxed) && ask_pending();
  }
  int acknowledge_interrupt() override;
  void end_of_interrupt(u8 vector) override;
  u8 task_priority() override;
  void set_task_priority(u8 cr8) override;
  bool msr_read(u32 msr, u64& value) override;
  bool msr_write(u32 msr, u64 value) override;
  u64 hypercall(const Hypercall& call) override;
  u64 tsc() override { return machine_.environment.tsc(); }
  u64 random() override { return machine_.environment.random(); }
  void begin_exclusive() override;
  void end_exclusive() override { machine_.gate.open(); }

 private:
  bool ask_pending();
  // After a write that may have let a held-back interrupt through (an EOI, a lower task priority).
  void look_again() { link_.interrupt_hint.store(true, std::memory_order_relaxed); }
  void wait_for_output();

  Machine& machine_;
  ProcessorLink& link_;
  unsigned processor_;
  Trace* trace_;  // null: nothing is traced
  ProcessorCounters counters_;
};

}  // namespace nacre::vm
