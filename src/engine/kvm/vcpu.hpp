// KvmVcpu: one vCPU of KVM's as an engine::Vcpu. docs/adr/0018-kvm-engine.md.
#pragma once

#include <array>
#include <atomic>
#include <optional>
#include <utility>
#include <vector>

#include "engine/context.hpp"
#include "engine/engine.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/kvm/group.hpp"
#include "engine/kvm/record.hpp"
#include "host/mapping.hpp"
#include "host/signals.hpp"
#include "interp/interpreter.hpp"

namespace nacre::kvm {

class KvmVcpu final : public engine::Vcpu, private host::FaultHandler {
 public:
  static Result<std::unique_ptr<KvmVcpu>> create(const engine::EngineContext& context);

  engine::Exit run() override;
  void kick() override;
  cpu::State& state() override;
  const cpu::State& glance() override;
  // Whoever has not asked for the state since KVM ran cannot have changed it.
  void state_changed() override { changed_ |= current_ == Current::All; }
  void memory_changed(GuestPhysical, u64) override {}  // the processor sees to it
  // For debuggers: where the guest is to stop, until the next call; what its own debug registers say counts for nothing
  // meanwhile. As state(): while run() is not executing.
  struct Stops {
    bool each_instruction = false;
    bool at_int3 = false;  // of which the guest is then not told
    std::array<std::optional<u64>, 4> before;  // an instruction at this linear address
  };
  Status stop_at(const Stops& stops);
  // After run() has returned Kicked: it stopped there, once.
  [[nodiscard]] bool has_stopped() const { return stopped_at_.has_value(); }
  [[nodiscard]] std::optional<u64> take_stop() { return std::exchange(stopped_at_, std::nullopt); }
  [[nodiscard]] std::span<const engine::NamedCounter> counters() const override { return counters_.named; }
  Status take_apic(const irq::LocalApic::Loan& loan) override;
  Result<irq::LocalApic::Loan> return_apic() override;

  // The vector of the last exception that KVM had for the guest since it was given its state. Of use where
  // its delivery failed.
  [[nodiscard]] u8 last_exception();

 private:
  // What of the state is in state_, since KVM ran last.
  enum class Current : u8 { Nothing, General, All };

  KvmVcpu(const engine::EngineContext& context, VmGroup& group, host::UniqueFd file, host::Mapping run,
          std::unique_ptr<engine::HostedVectorUnit> vector);
  Status set_up();
  Status set_cpuid();
  void find_msrs();
  bool handle(int signal, siginfo_t* info, ucontext_t* context) override;

  // state.cpp
  void finish_instruction();
  void read_general();
  void read_all();
  void write_all();
  void read_msrs();
  void write_msrs();
  void read_events();
  void write_events();
  void write_tsc_offset();
  void must(int result, const char* what);

  u64 read_msr_of_kvm(u32 msr);
  void write_msr_of_kvm(u32 msr, u64 value);

  // apic.cpp: where KVM has the local APIC
  [[nodiscard]] bool has_apic() const { return group_.has_chip(); }
  void write_apic();
  Result<kvm_lapic_state> read_apic();
  void settle_timer();
  void read_activity();
  void write_activity();

  // vcpu.cpp
  bool asleep();
  void offer_interrupt();
  void give_interrupt(u8 vector);
  std::optional<engine::Exit> after_run();
  void note_exit();
  void note(ExitKind kind, u64 detail);
  std::optional<engine::Exit> interpret_one();
  void port_access();
  void memory_access();
  void read_msr();
  void write_msr();

  const engine::EngineContext context_;
  VmGroup& group_;
  host::UniqueFd file_;
  host::Mapping run_memory_;
  kvm_run& run_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  interp::Interpreter interpreter_;  // of what KVM cannot emulate
  cpu::State state_;
  Current current_ = Current::All;
  bool changed_ = true;      // state_ is newer than KVM's
  bool unfinished_ = false;  // the instruction that came to us ends with the next KVM_RUN
  bool open_ = false;        // an interrupt could be delivered now
  bool tsc_offset_attribute_ = false;
  std::vector<u32> msrs_;                     // that this KVM has
  std::optional<irq::LocalApic::Loan> loan_;  // to be written
  u8 cr8_ = 0;                                // where KVM has the local APIC
  std::atomic<bool> kicked_{false};
  std::optional<host::KickableThread> thread_;
  std::atomic<bool> thread_known_{false};
  std::optional<Error> failure_;
  std::optional<u64> stopped_at_;
  const std::unique_ptr<Record> record_;
  ExitCounters counters_;
};

}  // namespace nacre::kvm
