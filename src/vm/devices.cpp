#include "vm/devices.hpp"

#include <sys/random.h>

namespace nacre::vm {

void Devices::HostEntropy::fill(u8* to, usize bytes) {
  while (bytes != 0) {
    const ssize_t got = getrandom(to, bytes, 0);
    if (got <= 0) continue;  // interrupted
    to += got;
    bytes -= static_cast<usize>(got);
  }
}

DeviceThread& Devices::add_thread() {
  threads_.push_back(std::make_unique<DeviceThread>());
  return *threads_.back();
}

VirtioSlot& Devices::add_slot(DeviceThread& thread) {
  slots_.push_back(std::make_unique<VirtioSlot>(machine_, thread));
  return *slots_.back();
}

void Devices::place(VirtioSlot& slot, virtio::Device& device) {
  transports_.push_back(std::make_unique<virtio::PciTransport>(device, machine_.board.messages()));
  slot.connect(*transports_.back());
  machine_.board.chipset().pci().attach(static_cast<unsigned>(transports_.size()), 0, *transports_.back());
}

Status Devices::create(const DeviceConfig& config) {
  const auto& memory = machine_.board.memory();
  DeviceThread* common = nullptr;  // of the devices that never wait
  const auto quick = [&]() -> DeviceThread& {
    if (common == nullptr) common = &add_thread();
    return *common;
  };
  if (config.rng) {
    VirtioSlot& slot = add_slot(quick());
    rng_ = std::make_unique<virtio::rng::Rng>(memory, slot.ports(), entropy_);
    place(slot, *rng_);
  }
  return {};
}

void Devices::start(const std::function<void(const Error&)>& failed) {
  for (auto& thread : threads_) thread->start("virtio", failed);
}

void Devices::stop() {
  for (auto& thread : threads_) thread->stop();
}

}  // namespace nacre::vm
