// Small pieces that fit the devices' ports to the Environment and to the bus spaces. Freestanding; under
// the board's lock.
#pragma once

#include "base/clock.hpp"
#include "board/environment.hpp"
#include "device/debug/debug_ports.hpp"
#include "device/ports.hpp"
#include "irq/local_apic/local_apic.hpp"
#include "memory/address_space.hpp"
#include "memory/port_space.hpp"
#include "time/pvclock/pvclock.hpp"
#include "time/steal_time/steal_time.hpp"

namespace nacre::board {

class EnvironmentClock final : public time::Clock, public time::WallClock {
 public:
  explicit EnvironmentClock(Environment& environment) : environment_(environment) {}
  u64 now_ns() override { return environment_.now(); }
  u64 unix_ns() override { return environment_.wall_clock(); }

 private:
  Environment& environment_;
};

class SerialOutput final : public device::ByteSink {
 public:
  SerialOutput(Environment& environment, unsigned port) : environment_(environment), port_(port) {}
  void put(u8 byte) override { environment_.serial_output(port_, byte); }

 private:
  Environment& environment_;
  unsigned port_;
};

// A debug port and where its bytes go.
class DebugPort final : public memory::PortHandler, private device::ByteSink {
 public:
  DebugPort(Environment& environment, unsigned which) : environment_(environment), which_(which) {}
  u32 read(u16, unsigned) override { return console_.read(); }
  void write(u16, unsigned, u32 value) override { console_.write(static_cast<u8>(value)); }

 private:
  void put(u8 byte) override { environment_.debug_output(which_, byte); }

  Environment& environment_;
  unsigned which_;
  device::DebugConsole console_{*this};
};

class PowerOutput final : public device::PowerSink {
 public:
  explicit PowerOutput(Environment& environment) : environment_(environment) {}
  void power_off() override { environment_.power_event({PowerEvent::Kind::PowerOff, 0}); }
  void reset() override { environment_.power_event({PowerEvent::Kind::Reset, 0}); }
  void panicked() override { environment_.power_event({PowerEvent::Kind::Panic, 0}); }
  void debug_exit(u32 status) override { environment_.power_event({PowerEvent::Kind::DebugExit, status}); }

 private:
  Environment& environment_;
};

class RamWriter final : public time::GuestWriter {
 public:
  explicit RamWriter(memory::AddressSpace& memory) : memory_(memory) {}
  bool write(GuestPhysical address, const void* from, usize bytes) override {
    return memory_.write(address, from, bytes);
  }

 private:
  memory::AddressSpace& memory_;
};

// The word through which a guest ends interrupts. It is data of its own, never code, so that nobody who
// caches translations need hear of a store.
class RamWord final : public irq::GuestWord {
 public:
  explicit RamWord(memory::AddressSpace& memory) : memory_(memory) {}
  bool load(GuestPhysical address, u32& value) override {
    const u8* host = memory_.host(address, true);
    if (host == nullptr) return false;
    value = __atomic_load_n(reinterpret_cast<const u32*>(host), __ATOMIC_RELAXED);
    return true;
  }
  bool store(GuestPhysical address, u32 value) override {
    return memory_.write(address, &value, sizeof value);
  }

 private:
  memory::AddressSpace& memory_;
};

// As RamWord: data of its own.
class RamByte final : public time::GuestByte {
 public:
  explicit RamByte(memory::AddressSpace& memory) : memory_(memory) {}
  bool exchange(GuestPhysical address, u8 desired, u8& before) override {
    u8* host = memory_.host(address, true);
    if (host == nullptr) return false;
    before = __atomic_exchange_n(host, desired, __ATOMIC_SEQ_CST);
    static_cast<void>(memory_.mark_written(address, 1));
    return true;
  }

 private:
  memory::AddressSpace& memory_;
};

// A window onto an object that has read(offset, size) and write(offset, size, value) but no base class.
template <typename Device>
class Window final : public memory::MmioHandler {
 public:
  explicit Window(Device& device) : device_(device) {}
  u64 read(u64 offset, unsigned size) override { return device_.read(offset, size); }
  void write(u64 offset, unsigned size, u64 value) override { device_.write(offset, size, value); }

 private:
  Device& device_;
};

// Ports that are two member functions of their owner.
template <typename Owner, u32 (Owner::*reader)(u16, unsigned), void (Owner::*writer)(u16, unsigned, u32)>
class Ports final : public memory::PortHandler {
 public:
  explicit Ports(Owner& owner) : owner_(owner) {}
  u32 read(u16 offset, unsigned size) override { return (owner_.*reader)(offset, size); }
  void write(u16 offset, unsigned size, u32 value) override { (owner_.*writer)(offset, size, value); }

 private:
  Owner& owner_;
};

}  // namespace nacre::board
