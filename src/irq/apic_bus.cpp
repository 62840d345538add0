#include "irq/apic_bus.hpp"

namespace nacre::irq {

bool ApicBus::attach(LocalApic& apic) {
  if (count_ == kMaxApics) return false;
  apics_[count_++] = &apic;
  return true;
}

void ApicBus::expect_level(unsigned pin, const Message& message) {
  if (elsewhere_ != nullptr) elsewhere_->expect_level(pin, message);
}

bool ApicBus::deliver(const Message& message) {
  if (elsewhere_ != nullptr) return elsewhere_->deliver(message);
  if (message.delivery == Delivery::LowestPriority) return deliver_lowest_priority(message);
  bool taken = false;
  for (usize i = 0; i < count_; ++i) {
    if (!apics_[i]->accepts(message.mode, message.destination)) continue;
    taken |= apics_[i]->accept(message.delivery, message.vector, message.trigger);
  }
  return taken;
}

// SDM vol. 3, 11.6.2.4: one of the set, with the lowest processor priority. Ties go to the first.
bool ApicBus::deliver_lowest_priority(const Message& message) {
  LocalApic* best = nullptr;
  for (usize i = 0; i < count_; ++i) {
    LocalApic& apic = *apics_[i];
    if (!apic.accepts(message.mode, message.destination) || !apic.takes_interrupts()) continue;
    if (best == nullptr || apic.processor_priority() < best->processor_priority()) best = &apic;
  }
  return best != nullptr && best->accept(Delivery::Fixed, message.vector, message.trigger);
}

void ApicBus::send(const Message& message, Shorthand shorthand, u32 sender) {
  if (shorthand == Shorthand::None) {
    deliver(message);
    return;
  }
  for (usize i = 0; i < count_; ++i) {
    const bool is_sender = apics_[i]->initial_id() == sender;
    if (shorthand == Shorthand::Self && !is_sender) continue;
    if (shorthand == Shorthand::Others && is_sender) continue;
    apics_[i]->accept(message.delivery, message.vector, message.trigger);
  }
}

}  // namespace nacre::irq
