// SlotChanges: which hot-plug slots a guest has done something to, on its way from a vCPU thread to the I/O
// thread. Compiled to general registers only.
#pragma once

#include <atomic>

#include "device/pci/root_port.hpp"
#include "vm/hosted_environment.hpp"

namespace nacre::vm {

class SlotChanges final : public device::pci::SlotObserver {
 public:
  explicit SlotChanges(HostedEnvironment& environment) : environment_(environment) {}
  void slot_changed(unsigned number) override;
  // Bit n: slot n. Each once.
  [[nodiscard]] u32 take() {
    return changed_.load(std::memory_order_relaxed) == 0 ? 0 : changed_.exchange(0);
  }

 private:
  HostedEnvironment& environment_;
  std::atomic<u32> changed_ = 0;
};

}  // namespace nacre::vm
