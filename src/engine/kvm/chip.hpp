// Chip: the local APICs that KVM keeps for a VM, as the board's other interrupt controllers reach them. Linux,
// Documentation/virt/kvm/api.rst: KVM_CAP_SPLIT_IRQCHIP. I/O APIC, 8259 and PIT stay the board's.
#pragma once

#include <linux/kvm.h>

#include <memory>

#include "base/result.hpp"
#include "engine/kvm/system.hpp"
#include "irq/ioapic/ioapic.hpp"
#include "irq/message.hpp"

namespace nacre::kvm {

class Chip final : public irq::MessageSink {
 public:
  // Whether KVM's are to be had here, and are worth having. NACRE_KVM_CHIPS=user: they are not to be used.
  [[nodiscard]] static bool possible(const System& system);
  // Of a VM that has no processor yet.
  static Result<std::unique_ptr<Chip>> create(int vm);

  bool deliver(const irq::Message& message) override;
  void expect_level(unsigned pin, const irq::Message& message) override;

 private:
  explicit Chip(int vm) : vm_(vm) {}

  int vm_;
  // Not that anything is sent this way: from the routes of the I/O APIC's pins KVM knows whose interrupts' end it is to
  // tell. The structure's own array stands elsewhere in C++ than in C.
  struct Routes {
    u32 count = 0, flags = 0;
    kvm_irq_routing_entry entries[irq::Ioapic::kPins] = {};
  } routes_;
};

}  // namespace nacre::kvm
