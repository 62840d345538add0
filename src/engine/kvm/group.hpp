// VmGroup: KVM's VM. Made before the first vCPU; its memory slots do not change afterwards.
#pragma once

#include <memory>
#include <mutex>

#include "engine/context.hpp"
#include "engine/kvm/chip.hpp"
#include "engine/kvm/dirty_log.hpp"
#include "engine/kvm/system.hpp"
#include "host/mapping.hpp"
#include "memory/address_space.hpp"

namespace nacre::kvm {

class VmGroup final : public engine::Group {
 public:
  // Where messages to local APICs go; null: KVM has none for this machine.
  irq::MessageSink* local_apics() override { return chip_.get(); }

  bool divert_writes(GuestPhysical address, int event) override;
  void give_back_writes(GuestPhysical address, int event) override;
  [[nodiscard]] bool has_chip() const { return chip_ != nullptr; }

  static Result<std::unique_ptr<VmGroup>> create(const memory::AddressSpace& memory, bool apics);

  [[nodiscard]] DirtyLog& dirty_log() { return dirty_log_; }
  [[nodiscard]] const System& system() const { return system_; }
  [[nodiscard]] int file() const { return vm_.number(); }

  // Every translation that KVM has made of the guest's page tables is dropped. Only KVM's own processors are
  // seen to write to these; so this is for whoever else does. Any thread.
  Status forget_translations();

 private:
  VmGroup(System system, host::UniqueFd vm)
      : system_(std::move(system)),
        vm_(std::move(vm)),
        diverts_(hardware_virtualization() && system_.can(KVM_CAP_IOEVENTFD) > 0 &&
                 system_.can(KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0) {}
  Status add_slots(const memory::AddressSpace& memory);
  Status ask_for_msrs();

  System system_;
  host::UniqueFd vm_;
  const bool diverts_;  // it has ioeventfds
  std::unique_ptr<Chip> chip_;
  DirtyLog dirty_log_{system_, vm_.number()};
  host::Mapping spare_;  // RAM of the slot that comes and goes
  u32 spare_slot_ = 0;
  std::mutex forgetting_;
};

}  // namespace nacre::kvm
