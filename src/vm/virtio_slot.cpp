#include "vm/virtio_slot.hpp"

#include "vm/line.hpp"

namespace nacre::vm {

void VirtioSlot::queue(unsigned index) {
  BoardGuard board(machine_);
  transport_->interrupt(index);
}

void VirtioSlot::config() {
  BoardGuard board(machine_);
  transport_->config_interrupt();
}

void VirtioSlot::complain(const char* device, const char* why) {
  Line line;
  line.text("nacre: The guest's driver has broken its virtio-").text(device).text(" device: ").text(why);
  line.text("; the device stands still until the guest resets it.");
  line.write_to(2);
}

}  // namespace nacre::vm
