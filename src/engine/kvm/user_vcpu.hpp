// UserVcpu: for a KVM that emulates ring 0, because the processor has neither VMX nor SVM. Such a KVM is slow
// there and not exact, but runs 64-bit user code as itself. So the interpreter runs all but that, and KVM
// that. How user code is noticed to end: docs/adr/0018-kvm-engine.md, "Where KVM emulates".
#pragma once

#include <atomic>

#include "engine/kvm/vcpu.hpp"

namespace nacre::kvm {

class UserVcpu final : public engine::Vcpu, private cpu::TranslationObserver {
 public:
  static Result<std::unique_ptr<UserVcpu>> create(const engine::EngineContext& context);

  engine::Exit run() override;
  void kick() override;
  cpu::State& state() override { return state_; }
  void state_changed() override {
    interpreter_.flush();
    stale_ = true;
  }
  void activity_changed() override {}
  void memory_changed(GuestPhysical, u64) override {}  // every instruction is read anew

 private:
  // What KVM's processor sees of the board: everything but interrupts, which are the interpreter's to
  // deliver.
  class NoInterrupts final : public cpu::Platform {
   public:
    explicit NoInterrupts(cpu::Platform& board) : board_(board) {}
    u64 mmio_read(GuestPhysical a, unsigned size) override { return board_.mmio_read(a, size); }
    void mmio_write(GuestPhysical a, unsigned size, u64 value) override { board_.mmio_write(a, size, value); }
    u32 port_read(u16 port, unsigned size) override { return board_.port_read(port, size); }
    void port_write(u16 port, unsigned size, u32 value) override { board_.port_write(port, size, value); }
    bool interrupt_pending() override { return false; }
    int acknowledge_interrupt() override { return -1; }
    u8 task_priority() override { return board_.task_priority(); }
    void set_task_priority(u8) override {}
    bool msr_read(u32 msr, u64& value) override { return board_.msr_read(msr, value); }
    bool msr_write(u32 msr, u64 value) override { return board_.msr_write(msr, value); }
    u64 hypercall(const Hypercall& call) override { return board_.hypercall(call); }
    u64 tsc() override { return board_.tsc(); }
    u64 random() override { return board_.random(); }

   private:
    cpu::Platform& board_;
  };

  UserVcpu(const engine::EngineContext& context, std::unique_ptr<engine::HostedVectorUnit> vector);
  // The guest, which the interpreter executes, has translations forgotten. KVM knows nothing of that.
  void flush_all() override { stale_ = true; }
  void flush_non_global() override { stale_ = true; }
  void switch_space(u16 from, u16 to, bool keep) override { stale_ |= !keep || from == to; }
  void forget_space(u16) override { stale_ = true; }
  void forget_other_spaces() override { stale_ = true; }
  void flush_page(GuestLinear) override { stale_ = true; }
  void code_written(GuestPhysical, usize) override {}

  [[nodiscard]] VmGroup& group() const { return *static_cast<VmGroup*>(context_.group); }
  [[nodiscard]] bool is_for_kvm() const;
  [[nodiscard]] u8 code_byte(u64 linear) const;
  void take_back_trap(u64 dr6);
  void take_vector_registers(const cpu::State& after);
  std::optional<engine::Exit> run_user_code();

  const engine::EngineContext context_;
  NoInterrupts board_;
  std::unique_ptr<KvmVcpu> kvm_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  interp::Interpreter interpreter_;
  cpu::State state_;
  unsigned user_batches_ = 0;
  bool stale_ = true;       // what KVM knows of the page tables
  u64 cr4_ = 0, xcr0_ = 0;  // bits that this KVM takes of a guest
  std::atomic<bool> kicked_{false};
};

}  // namespace nacre::kvm
