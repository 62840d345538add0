#include "engine/kvm/chip.hpp"

#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "host/error.hpp"

namespace nacre::kvm {

bool Chip::possible(const System& system) {
  // Where ring 0 is emulated an exit is cheap beside what it takes to come to it, and KVM's own emulation of the APIC
  // would be one part more that differs.
  if (!hardware_virtualization()) return false;
  if (const char* wanted = getenv("NACRE_KVM_CHIPS"); wanted != nullptr && std::strcmp(wanted, "user") == 0) return false;
  for (const int needed : {KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_SIGNAL_MSI, KVM_CAP_MP_STATE}) {
    if (system.can(needed) <= 0) return false;
  }
  return system.can(KVM_CAP_IRQ_ROUTING) >= static_cast<int>(irq::Ioapic::kPins);
}

Result<std::unique_ptr<Chip>> Chip::create(int vm) {
  kvm_enable_cap split = {};
  split.cap = KVM_CAP_SPLIT_IRQCHIP;
  split.args[0] = irq::Ioapic::kPins;
  if (request(vm, KVM_ENABLE_CAP, &split) != 0)
    return host::errno_error("KVM does not give the machine local APICs");
  return std::unique_ptr<Chip>(new Chip(vm));
}

bool Chip::deliver(const irq::Message& message) {
  const irq::Msi msi = irq::msi_from_message(message);
  kvm_msi to = {};
  to.address_lo = static_cast<u32>(msi.address);
  to.data = msi.data;
  return request(vm_, KVM_SIGNAL_MSI, &to) > 0;
}

void Chip::expect_level(unsigned pin, const irq::Message& message) {
  if (pin >= irq::Ioapic::kPins) return;
  const irq::Msi msi = irq::msi_from_message(message);
  kvm_irq_routing_entry* entry = nullptr;
  for (u32 i = 0; i < routes_.count; ++i) {
    if (routes_.entries[i].gsi == pin) entry = &routes_.entries[i];
  }
  if (entry == nullptr) entry = &routes_.entries[routes_.count++];
  if (entry->type == KVM_IRQ_ROUTING_MSI && entry->u.msi.address_lo == static_cast<u32>(msi.address) &&
      entry->u.msi.data == msi.data) {
    return;
  }
  entry->gsi = pin;
  entry->type = KVM_IRQ_ROUTING_MSI;
  entry->u.msi.address_lo = static_cast<u32>(msi.address);
  entry->u.msi.data = msi.data;
  // A guest cannot make it fail but by the host's lack of memory: then its interrupt comes once.
  static_assert(offsetof(Routes, entries) == 8);
  static_cast<void>(request(vm_, host::kKvmSetGsiRouting, &routes_));
}

}  // namespace nacre::kvm
