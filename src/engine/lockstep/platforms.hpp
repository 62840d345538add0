// The two sides' Platforms: the running engine's passes everything on and logs it, the shadow's answers from
// the log and notices when it is asked something else. Owned by the vCPU's thread.
#pragma once

#include "cpu/platform.hpp"
#include "engine/lockstep/log.hpp"
#include "memory/address_space.hpp"

namespace nacre::lockstep {

// Before an interrupt may be delivered the two sides meet.
class Meeting {
 public:
  // The running engine stands between two instructions, its state complete.
  virtual void meet() = 0;
  // They still stand there; the board may have written to memory.
  virtual void settle() = 0;
  // The log should be emptied soon.
  virtual void end_step() = 0;

 protected:
  ~Meeting() = default;
};

class Recorder final : public cpu::Platform, public memory::WriteObserver {
 public:
  Recorder(cpu::Platform& outside, Log& log, Meeting& meeting)
      : outside_(outside), log_(log), meeting_(meeting) {}

  u64 mmio_read(GuestPhysical address, unsigned size) override;
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override;
  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;
  bool interrupt_pending() override;
  int acknowledge_interrupt() override;
  u8 task_priority() override;
  void set_task_priority(u8 cr8) override;
  bool msr_read(u32 msr, u64& value) override;
  bool msr_write(u32 msr, u64 value) override;
  u64 hypercall(const Hypercall& call) override;
  u64 tsc() override;
  u64 random() override;
  void begin_exclusive() override { outside_.begin_exclusive(); }
  void end_exclusive() override { outside_.end_exclusive(); }

  void written(GuestPhysical address, const u8* from, usize bytes) override;

 private:
  Entry& append(const Entry& entry);

  cpu::Platform& outside_;
  Log& log_;
  Meeting& meeting_;
};

class Replayer final : public cpu::Platform {
 public:
  // `memory` is the shadow's, which the board's writes go to as well.
  Replayer(Log& log, const memory::AddressSpace& memory) : log_(log), memory_(memory) {}

  u64 mmio_read(GuestPhysical address, unsigned size) override;
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override;
  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, unsigned size, u32 value) override;
  bool interrupt_pending() override;
  int acknowledge_interrupt() override;
  u8 task_priority() override;
  void set_task_priority(u8 cr8) override;
  bool msr_read(u32 msr, u64& value) override;
  bool msr_write(u32 msr, u64 value) override;
  u64 hypercall(const Hypercall& call) override;
  u64 tsc() override;
  u64 random() override;

  // The board's writes that are next in the log.
  void apply_ram_writes();
  // An interrupt is to be taken before the next instruction.
  [[nodiscard]] bool interrupt_next() const;
  // The shadow asked for something that the running engine did not ask for at that point.
  [[nodiscard]] bool astray() const { return astray_; }
  [[nodiscard]] const Entry& asked() const { return asked_; }
  [[nodiscard]] bool had_answer() const { return had_answer_; }
  [[nodiscard]] const Entry& answer() const { return answer_; }

 private:
  // The logged entry for what is asked, whose `value` and `ok` are compared only when it is given to the
  // outside.
  Entry take(const Entry& asked, bool gives_value);

  Log& log_;
  const memory::AddressSpace& memory_;
  bool astray_ = false, had_answer_ = false;
  Entry asked_, answer_;
};

}  // namespace nacre::lockstep
