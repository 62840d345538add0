// PciTransport: a virtio device as a PCI function, without the legacy interface. Virtio 1.2, 4.1.
// Freestanding. Threads: under the board's lock, but for doorbells (any thread) as device.hpp says.
#pragma once

#include "device/pci/endpoint.hpp"
#include "virtio/device.hpp"
#include "virtio/pci_registers.hpp"

namespace nacre::virtio {

class PciTransport final : public device::pci::Endpoint {
 public:
  struct Registers {
    u64 driver_features = 0;
    u32 device_feature_select = 0, driver_feature_select = 0;
    u16 config_vector = device::pci::MsiX::kNoVector;
    u16 queue_select = 0;
    u8 status = 0;
    u8 isr = 0;
    u8 resetting = 0;  // the guest asked for a reset that the queues' side has not finished
    u8 spare[9] = {};
    QueuePlace places[Device::kMaxQueues];
    u16 vectors[Device::kMaxQueues] = {};
    u16 enabled[Device::kMaxQueues] = {};
    u8 spare2[4] = {};
    constexpr bool operator==(const Registers&) const = default;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 device = 0;  // its id
    Endpoint::State endpoint;
    Registers registers;
    Device::QueuesState queues;
    constexpr bool operator==(const State&) const = default;
  };

  PciTransport(Device& device, irq::MessageSink& sink);

  u32 config_read(u16 offset, unsigned size) override;
  void config_write(u16 offset, unsigned size, u32 value) override;

  // What Interrupts asks for.
  void interrupt(unsigned queue);
  void config_interrupt();

  [[nodiscard]] Device& device() { return device_; }
  // One at a time; null: none. Under the board's lock, or before the machine starts.
  void tell_doorbells(DoorbellPlace* place) { place_ = place; }

  // While the queues' side does not run.
  [[nodiscard]] State state();
  Status load(const State& state);

 private:
  u64 region_read(u64 offset, unsigned size) override;
  void region_write(u64 offset, unsigned size, u64 value) override;
  void doorbell(u32 offset) override { device_.ring(offset / BarLayout::doorbell_stride); }
  void doorbells_moved(bool there, GuestPhysical first) override {
    if (place_ != nullptr) place_->doorbells_at(first, there ? device_.queue_count() : 0);
  }
  void device_reset() override;
  void device_lost_power() override;

  void add_virtio_capability(CapabilityType type, u32 offset, u32 length);
  [[nodiscard]] bool settled();
  [[nodiscard]] u8 status();
  void write_status(u8 value);
  [[nodiscard]] u64 common_read(u64 offset, unsigned size);
  void common_write(u64 offset, unsigned size, u64 value);
  void write_queue(u64 offset, unsigned size, u64 value);
  [[nodiscard]] u64 field(u64 offset);
  void forget_driver();
  void start_device();
  [[nodiscard]] bool through_config(u64& offset, unsigned& size) const;

  Device& device_;
  DoorbellPlace* place_ = nullptr;
  Registers registers_;
  u16 config_window_ = 0;  // where the capability is through which config space reaches BAR 0
};

}  // namespace nacre::virtio
