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

// All of them or none.
void VirtioSlot::doorbells_at(GuestPhysical first, unsigned count) {
  engine::Group* const group = machine_.group;
  if (group == nullptr) return;
  const auto place = [](GuestPhysical from, unsigned i) { return from + u64{i} * virtio::BarLayout::doorbell_stride; };
  const auto give_back = [&] {
    while (diverted_ != 0) group->give_back_writes(place(diverted_from_, --diverted_), thread_.event());
  };
  give_back();
  diverted_from_ = first;
  while (diverted_ < count && group->divert_writes(place(first, diverted_), thread_.event())) ++diverted_;
  if (diverted_ < count) give_back();
  transport_->device().unheard_doorbells(diverted_ != 0);
}

void VirtioSlot::complain(const char* device, const char* why) {
  Line line;
  line.text("nacre: The guest's driver has broken its virtio-").text(device).text(" device: ").text(why);
  line.text("; the device stands still until the guest resets it.");
  line.write_to(2);
}

}  // namespace nacre::vm
