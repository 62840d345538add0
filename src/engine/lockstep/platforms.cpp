#include "engine/lockstep/platforms.hpp"

namespace nacre::lockstep {

using Kind = Entry::Kind;

const char* name_of(Kind kind) {
  switch (kind) {
    case Kind::MmioRead:
      return "mmio read";
    case Kind::MmioWrite:
      return "mmio write";
    case Kind::PortRead:
      return "in";
    case Kind::PortWrite:
      return "out";
    case Kind::MsrRead:
      return "rdmsr";
    case Kind::MsrWrite:
      return "wrmsr";
    case Kind::Hypercall:
      return "hypercall";
    case Kind::TaskPriority:
      return "read of CR8";
    case Kind::SetTaskPriority:
      return "write of CR8";
    case Kind::Tsc:
      return "rdtsc";
    case Kind::Random:
      return "rdrand";
    case Kind::Acknowledge:
      return "interrupt";
    case Kind::RamWrite:
      return "device's write to memory";
  }
  return "?";
}

// --- Recorder -----------------------------------------------------------------------------------------

Entry& Recorder::append(const Entry& entry) {
  Entry& appended = log_.append(entry);
  if (log_.size() >= Log::kNearlyFull) meeting_.end_step();
  return appended;
}

u64 Recorder::mmio_read(GuestPhysical address, unsigned size) {
  Entry& entry = append({Kind::MmioRead, static_cast<u8>(size), true, address.value(), 0});
  return entry.value = outside_.mmio_read(address, size);
}

void Recorder::mmio_write(GuestPhysical address, unsigned size, u64 value) {
  append({Kind::MmioWrite, static_cast<u8>(size), true, address.value(), value});
  outside_.mmio_write(address, size, value);
}

u32 Recorder::port_read(u16 port, unsigned size) {
  Entry& entry = append({Kind::PortRead, static_cast<u8>(size), true, port, 0});
  const u32 value = outside_.port_read(port, size);
  entry.value = value;
  return value;
}

void Recorder::port_write(u16 port, unsigned size, u32 value) {
  append({Kind::PortWrite, static_cast<u8>(size), true, port, value});
  outside_.port_write(port, size, value);
}

bool Recorder::interrupt_pending() {
  meeting_.meet();
  const bool pending = outside_.interrupt_pending();
  meeting_.settle();
  return pending;
}

int Recorder::acknowledge_interrupt() {
  Entry& entry = append({Kind::Acknowledge, 0, true, 0, 0});
  const int vector = outside_.acknowledge_interrupt();
  entry.value = static_cast<u64>(vector);
  return vector;
}

u8 Recorder::task_priority() {
  Entry& entry = append({Kind::TaskPriority, 0, true, 0, 0});
  const u8 value = outside_.task_priority();
  entry.value = value;
  return value;
}

void Recorder::set_task_priority(u8 cr8) {
  append({Kind::SetTaskPriority, 0, true, 0, cr8});
  outside_.set_task_priority(cr8);
}

bool Recorder::msr_read(u32 msr, u64& value) {
  Entry& entry = append({Kind::MsrRead, 0, true, msr, 0});
  entry.ok = outside_.msr_read(msr, value);
  entry.value = value;
  return entry.ok;
}

bool Recorder::msr_write(u32 msr, u64 value) {
  Entry& entry = append({Kind::MsrWrite, 0, true, msr, value});
  return entry.ok = outside_.msr_write(msr, value);
}

u64 Recorder::hypercall(const Hypercall& call) {
  Entry& entry = append({Kind::Hypercall, 0, call.wide, call.number, 0});
  return entry.value = outside_.hypercall(call);
}

u64 Recorder::tsc() {
  Entry& entry = append({Kind::Tsc, 0, true, 0, 0});
  return entry.value = outside_.tsc();
}

u64 Recorder::random() {
  Entry& entry = append({Kind::Random, 0, true, 0, 0});
  return entry.value = outside_.random();
}

void Recorder::written(GuestPhysical address, const u8* from, usize bytes) {
  for (usize at = 0; at < bytes; at += 8) {
    Entry entry{Kind::RamWrite, static_cast<u8>(bytes - at < 8 ? bytes - at : 8), true, address.value() + at,
                0};
    for (unsigned i = 0; i < entry.size; ++i) entry.value |= u64{from[at + i]} << (8 * i);
    append(entry);
  }
}

// --- Replayer -----------------------------------------------------------------------------------------

void Replayer::apply_ram_writes() {
  for (const Entry* next = log_.front(); next != nullptr && next->kind == Kind::RamWrite;
       next = log_.front()) {
    u8 bytes[8];
    for (unsigned i = 0; i < next->size; ++i) bytes[i] = static_cast<u8>(next->value >> (8 * i));
    NACRE_CHECK(memory_.write(GuestPhysical(next->where), bytes, next->size));
    log_.pop();
  }
}

Entry Replayer::take(const Entry& asked, bool gives_value) {
  if (astray_) return {};
  const Entry* next = log_.front();
  const bool same = next != nullptr && next->kind == asked.kind && next->size == asked.size &&
                    next->where == asked.where && (!gives_value || next->value == asked.value);
  if (!same) {
    astray_ = true;
    asked_ = asked;
    had_answer_ = next != nullptr;
    if (next != nullptr) answer_ = *next;
    return {};
  }
  const Entry found = *next;
  log_.pop();
  apply_ram_writes();
  return found;
}

u64 Replayer::mmio_read(GuestPhysical address, unsigned size) {
  return take({Kind::MmioRead, static_cast<u8>(size), true, address.value(), 0}, false).value;
}

void Replayer::mmio_write(GuestPhysical address, unsigned size, u64 value) {
  take({Kind::MmioWrite, static_cast<u8>(size), true, address.value(), value}, true);
}

u32 Replayer::port_read(u16 port, unsigned size) {
  return static_cast<u32>(take({Kind::PortRead, static_cast<u8>(size), true, port, 0}, false).value);
}

void Replayer::port_write(u16 port, unsigned size, u32 value) {
  take({Kind::PortWrite, static_cast<u8>(size), true, port, value}, true);
}

bool Replayer::interrupt_next() const {
  const Entry* next = log_.front();
  return next != nullptr && next->kind == Kind::Acknowledge;
}

bool Replayer::interrupt_pending() {
  return interrupt_next();
}

int Replayer::acknowledge_interrupt() {
  return static_cast<int>(take({Kind::Acknowledge, 0, true, 0, 0}, false).value);
}

u8 Replayer::task_priority() {
  return static_cast<u8>(take({Kind::TaskPriority, 0, true, 0, 0}, false).value);
}

void Replayer::set_task_priority(u8 cr8) {
  take({Kind::SetTaskPriority, 0, true, 0, cr8}, true);
}

bool Replayer::msr_read(u32 msr, u64& value) {
  const Entry found = take({Kind::MsrRead, 0, true, msr, 0}, false);
  value = found.value;
  return found.ok;
}

bool Replayer::msr_write(u32 msr, u64 value) {
  return take({Kind::MsrWrite, 0, true, msr, value}, true).ok;
}

u64 Replayer::hypercall(const Hypercall& call) {
  return take({Kind::Hypercall, 0, call.wide, call.number, 0}, false).value;
}

u64 Replayer::tsc() {
  return take({Kind::Tsc, 0, true, 0, 0}, false).value;
}

u64 Replayer::random() {
  return take({Kind::Random, 0, true, 0, 0}, false).value;
}

}  // namespace nacre::lockstep
