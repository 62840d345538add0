// Answers: the Platform of KVM where it follows the interpreter. What that asked of the world outside its
// processor, and was told, is given to KVM again; what KVM's processor answers by itself (time stamps, task
// priority) is set aside. Owned by the vCPU's thread.
#pragma once

#include "engine/lockstep/platforms.hpp"

namespace nacre::lockstep {

class Answers final : public cpu::Platform {
 public:
  // `log` is the interpreter's. `memory` is KVM's, which the board's writes go to as well.
  Answers(Log& log, const memory::AddressSpace& memory) : log_(log), replayer_(own_, memory) {}

  // KVM is to do what is in the log now.
  void prepare();
  // It need not.
  void forget();

  // The instruction has asked for what each processor answers in its own way.
  [[nodiscard]] bool by_the_processor() const { return by_the_processor_; }
  // What KVM should have asked for too; null: nothing.
  [[nodiscard]] const Entry* left() const { return own_.front(); }
  [[nodiscard]] bool astray() const { return replayer_.astray(); }
  [[nodiscard]] const Replayer& replayer() const { return replayer_; }

  u64 mmio_read(GuestPhysical address, unsigned size) override { return replayer_.mmio_read(address, size); }
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override {
    replayer_.mmio_write(address, size, value);
  }
  u32 port_read(u16 port, unsigned size) override { return replayer_.port_read(port, size); }
  void port_write(u16 port, unsigned size, u32 value) override { replayer_.port_write(port, size, value); }
  // The interpreter says when.
  bool interrupt_pending() override { return false; }
  int acknowledge_interrupt() override { return -1; }
  u8 task_priority() override { return task_priority_; }
  void set_task_priority(u8 cr8) override { task_priority_ = cr8; }
  bool msr_read(u32 msr, u64& value) override { return replayer_.msr_read(msr, value); }
  bool msr_write(u32 msr, u64 value) override { return replayer_.msr_write(msr, value); }
  u64 hypercall(const Hypercall& call) override { return replayer_.hypercall(call); }
  u64 tsc() override { return tsc_; }
  u64 random() override { return replayer_.random(); }

 private:
  Log& log_;
  Log own_;
  Replayer replayer_;
  bool by_the_processor_ = false;
  u8 task_priority_ = 0;
  u64 tsc_ = 0;  // as the interpreter was told last
};

}  // namespace nacre::lockstep
