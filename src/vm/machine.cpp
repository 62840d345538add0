#include "vm/machine.hpp"

namespace nacre::vm {

void BoardGuard::advance(unsigned processor) {
  Machine::Timer& own = machine_.timers[processor];
  if (machine_.board.next_deadline(processor) <= machine_.environment.now())
    machine_.board.advance(processor);
  // It may have fired for a deadline that has moved away since, or a moment early.
  if (own.fired.load(std::memory_order_relaxed) && own.fired.exchange(false)) own.armed = board::kNever;
  arm_timer(processor);
}

void BoardGuard::feed(unsigned port) {
  auto& ring = machine_.environment.input(port);
  for (auto bytes = ring.front(); !bytes.empty(); bytes = ring.front()) {
    const usize taken = machine_.board.serial_input(port, bytes);
    ring.take(taken);
    if (taken < bytes.size()) break;
  }
  machine_.environment.tell_input_space();
}

// A timer that is set too early costs one kick; a later setting is left for then, as guests move their
// next tick away far more often than closer.
void BoardGuard::arm_timer(unsigned processor) {
  Machine::Timer& timer = machine_.timers[processor];
  const u64 deadline = machine_.board.next_deadline(processor);
  if (timer.timer == nullptr || deadline >= timer.armed) return;
  timer.armed = deadline;
  const u64 now = machine_.environment.now();
  timer.timer->arm_after(deadline > now ? machine_.environment.clock().on_host(deadline - now) : 0);
}

void BoardGuard::arm_timers(u32 processors) {
  for (; processors != 0; processors &= processors - 1)
    arm_timer(static_cast<unsigned>(__builtin_ctz(processors)));
}

void BoardGuard::kick(u32 processors) {
  for (; processors != 0; processors &= processors - 1)
    machine_.environment.processor(static_cast<unsigned>(__builtin_ctz(processors))).kick();
}

void BoardGuard::wake(u32 processors) {
  for (; processors != 0; processors &= processors - 1)
    machine_.environment.processor(static_cast<unsigned>(__builtin_ctz(processors))).wake.wake();
}

u64 GuardedPlatform::mmio_read(GuestPhysical address, unsigned size) {
  counters_.memory.count();
  u64 value = 0;
  {
    BoardGuard board(machine_);
    value = board->processor(processor_).mmio_read(address, size);
  }
  if (trace_ != nullptr) trace_->mmio(false, address, size, value);
  return value;
}

void GuardedPlatform::mmio_write(GuestPhysical address, unsigned size, u64 value) {
  if (trace_ != nullptr) trace_->mmio(true, address, size, value);
  if (machine_.board.ring(address)) return counters_.doorbell.count();  // it needs no lock
  counters_.memory.count();
  BoardGuard board(machine_);
  board->processor(processor_).mmio_write(address, size, value);
  look_again();
}

u32 GuardedPlatform::port_read(u16 port, unsigned size) {
  counters_.port.count();
  u32 value = 0;
  {
    BoardGuard board(machine_);
    value = board->processor(processor_).port_read(port, size);
  }
  if (trace_ != nullptr) trace_->port(false, port, size, value);
  return value;
}

void GuardedPlatform::port_write(u16 port, unsigned size, u32 value) {
  counters_.port.count();
  if (trace_ != nullptr) trace_->port(true, port, size, value);
  {
    BoardGuard board(machine_);
    board->processor(processor_).port_write(port, size, value);
    look_again();
  }
  if (machine_.environment.congested()) wait_for_output();
}

// The guest writes faster than somebody reads. Holding up its processor is what a slow line does.
void GuardedPlatform::wait_for_output() {
  HostedEnvironment& environment = machine_.environment;
  for (;;) {
    const u32 seen = environment.drained().load();
    if (!environment.congested() || environment.ended() != Ending::Kind::None) return;
    host::futex_wait(environment.drained(), seen);
  }
}

bool GuardedPlatform::ask_pending() {
  BoardGuard board(machine_);
  if (board->processor(processor_).interrupt_pending()) return true;
  // Under the lock, under which it is also set: nothing that comes up now is missed.
  link_.interrupt_hint.store(false, std::memory_order_relaxed);
  return false;
}

void GuardedPlatform::begin_exclusive() {
  machine_.gate.close(processor_, [this](unsigned other) { machine_.environment.processor(other).kick(); });
}

int GuardedPlatform::acknowledge_interrupt() {
  BoardGuard board(machine_);
  const int vector = board->processor(processor_).acknowledge_interrupt();
  if (vector >= 0) counters_.interrupt.count();
  return vector;
}

void GuardedPlatform::end_of_interrupt(u8 vector) {
  BoardGuard board(machine_);
  board->processor(processor_).end_of_interrupt(vector);
}

u8 GuardedPlatform::task_priority() {
  BoardGuard board(machine_);
  return board->processor(processor_).task_priority();
}

void GuardedPlatform::set_task_priority(u8 cr8) {
  BoardGuard board(machine_);
  board->processor(processor_).set_task_priority(cr8);
  look_again();
}

bool GuardedPlatform::msr_read(u32 msr, u64& value) {
  counters_.msr.count();
  bool known = false;
  {
    BoardGuard board(machine_);
    known = board->processor(processor_).msr_read(msr, value);
  }
  return known;
}

u64 GuardedPlatform::hypercall(const Hypercall& call) {
  counters_.hypercall.count();
  BoardGuard board(machine_);
  return board->processor(processor_).hypercall(call);
}

bool GuardedPlatform::msr_write(u32 msr, u64 value) {
  counters_.msr.count();
  bool known = false;
  {
    BoardGuard board(machine_);
    known = board->processor(processor_).msr_write(msr, value);
    look_again();
  }
  return known;
}

}  // namespace nacre::vm
