// VirtioSlot: what one virtio device needs from the VM: its doorbell wakes the device's thread, where the engine can
// without its processor coming out of guest code; its
// interrupts take the board's lock, and a guest's mistake becomes one line on stderr. Threads:
// virtio/ports.hpp says who calls what.
#pragma once

#include "virtio/pci_transport.hpp"
#include "vm/device_thread.hpp"
#include "vm/machine.hpp"

namespace nacre::vm {

class VirtioSlot final : public virtio::Notifier, public virtio::Interrupts, public virtio::Complaints,
                         public virtio::DoorbellPlace {
 public:
  VirtioSlot(Machine& machine, DeviceThread& thread) : machine_(machine), thread_(thread) {}
  VirtioSlot(const VirtioSlot&) = delete;
  VirtioSlot& operator=(const VirtioSlot&) = delete;

  [[nodiscard]] virtio::Ports ports() { return {*this, *this, machine_.dma, *this}; }
  // Before the machine starts, or before it is plugged in. `transport` outlives the machine's run.
  void connect(virtio::PciTransport& transport) {
    transport_ = &transport;
    transport.tell_doorbells(this);
    thread_.add(transport.device());
  }

  void wake() override { thread_.raise(); }
  void queue(unsigned index) override;
  void config() override;
  void complain(const char* device, const char* why) override;
  void doorbells_at(GuestPhysical first, unsigned count) override;

 private:
  Machine& machine_;
  DeviceThread& thread_;
  virtio::PciTransport* transport_ = nullptr;
  // Doorbells whose writes go to the device's thread by themselves.
  GuestPhysical diverted_from_{0};
  unsigned diverted_ = 0;
};

}  // namespace nacre::vm
