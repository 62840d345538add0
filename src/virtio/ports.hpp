// What a virtio device needs from the program around it. A device is core code without threads: its queues
// are processed wherever Device::run() is called, its registers are accessed under the board's lock
// (device.hpp says what is shared between the two and how). Freestanding.
#pragma once

#include "base/address.hpp"
#include "base/types.hpp"

namespace nacre::virtio {

// The doorbell: run() has something to do. Any thread, with or without the board's lock; must not block, and
// takes no lock that is held while run() is called.
class Notifier {
 public:
  virtual void wake() = 0;

 protected:
  ~Notifier() = default;
};

// Told where a device's doorbells are, a word each: for who can have writes there noticed by somebody faster than the
// processor's engine. Such writes do not reach Device::ring(); the device must know of it (Device::unheard_doorbells())
// and run. Under the board's lock.
class DoorbellPlace {
 public:
  // `count` 0: nowhere now.
  virtual void doorbells_at(GuestPhysical first, unsigned count) = 0;

 protected:
  ~DoorbellPlace() = default;
};

// Called by run(), on its thread, without any lock of the board: the implementation takes the board's lock
// and calls PciTransport::interrupt() or config_interrupt().
class Interrupts {
 public:
  virtual void queue(unsigned index) = 0;
  virtual void config() = 0;

 protected:
  ~Interrupts() = default;
};

// Hears of stores to guest RAM that no processor made, so that whoever keeps translations of code drops them.
// Called by run() only, only for pages marked as code, after the bytes were stored and before the guest is
// told of them.
class DmaObserver {
 public:
  // [address, address + bytes), in one region of RAM, was stored to.
  virtual void written(GuestPhysical address, u64 bytes) = 0;
  // Returns when no processor can execute what stood in memory before the calls of written().
  virtual void settle() = 0;

 protected:
  ~DmaObserver() = default;
};

// One line for the host's user, at most once in a device's life between two resets. Called by run() only.
class Complaints {
 public:
  virtual void complain(const char* device, const char* why) = 0;

 protected:
  ~Complaints() = default;
};

struct Ports {
  Notifier& notifier;
  Interrupts& interrupts;
  DmaObserver& dma;
  Complaints& complaints;
};

}  // namespace nacre::virtio
