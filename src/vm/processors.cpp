// How a Vm makes its processors.
#include <sched.h>

#include "cpu/host_cpuid.hpp"
#include "engine/lockstep/follow_kvm.hpp"
#include "vm/vm.hpp"

namespace nacre::vm {
namespace {

// Which paravirtual features a guest of KVM cannot have. What the local APIC and the scheduler have a part in is KVM's
// where the local APICs are; with ours, hypercalls, which are always KVM's, know nothing of them, and nobody flushes TLBs.
u32 not_from_kvm(const cpu::HostCpuid& kvm, bool apics_in_kvm) {
  using cpu::KvmFeature;
  constexpr u32 kFeatures = 0x40000001;
  constexpr u32 kOnlyKvm = KvmFeature::PV_UNHALT | KvmFeature::PV_SEND_IPI | KvmFeature::PV_TLB_FLUSH;
  if (!apics_in_kvm) return kOnlyKvm;
  return (kOnlyKvm | KvmFeature::PV_EOI | KvmFeature::STEAL_TIME) & ~kvm.leaf(kFeatures, 0).eax;
}

}  // namespace

// Those this process may run on.
unsigned Vm::host_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return board::kMaxProcessors;  // more than it can count
  return static_cast<unsigned>(CPU_COUNT(&set));
}


// Why programs of such a guest are not run as themselves; null: they may be.
const char* Vm::no_direct(const Config& config) {
  // They would see the host's processor, which is not what the guest was promised.
  if (config.cpu_level != cpu::Level::Host) return "the CPU model is not host.";
  if (config.protection_keys) return "the guest's processor has protection keys, by which a page's rights differ from thread to thread.";
  return nullptr;
}

Status Vm::make_processor(unsigned i, const Config& config) {
  const bool followed_by_kvm = config.lock_step != nullptr && config.lock_step->by_kvm;
  const bool kvm = relay_ ? relay_->has(engine::Kind::Kvm) : followed_by_kvm || config.engine == engine::Kind::Kvm;
  // What several engines run must be what each can.
  const auto host = TRY(engine::processor_of(kvm ? engine::Kind::Kvm : config.engine));
  cpu::Model::Options options;
  options.execution = host.execution;
  options.level = config.cpu_level;
  options.protection_keys = config.protection_keys;
  options.processors = config.processors;
  options.apic_id = i;
  options.tsc_hz = clock_.hz();
  // Where each vCPU has a host processor, one that sleeps can be woken at once: it is not to be taken for one that is
  // kept off.
  using cpu::KvmFeature;
  const bool scarce = turns_.scarce() || (sleeps_inside_ && config.processors > host_processors());
  if (scarce) options.kvm_features |= KvmFeature::STEAL_TIME | KvmFeature::PV_TLB_FLUSH;
  // Where KVM emulates, hypercalls are the interpreter's.
  const bool theirs = kvm && engine::role_of(engine::Kind::Kvm) != host::ThreadRole::KvmUserProcessor;
  if (theirs) options.kvm_features &= ~not_from_kvm(*host.cpuid, !followed_by_kvm && engine::has_local_apics(engine::Kind::Kvm));
  const auto model = cpu::Model::create(*host.cpuid, options);
  if (!model) return model.error();
  Trace* trace = config.trace_topics != 0 ? &trace_ : nullptr;
  auto processor = std::make_unique<Processor>(machine_, i, model.value(), trace);
  const engine::EngineContext context = {
      .memory = machine_.board.memory(),
      .platform = processor->platform,
      .model = processor->model,
      .tracer = trace,
      .trace_instructions =
          trace != nullptr && (trace->wants(TraceTopic::exec) || trace->wants(TraceTopic::last)),
      .trace_system_registers =
          trace != nullptr && trace->wants(TraceTopic::msr | TraceTopic::control | TraceTopic::unknown),
      .trace_blocks = trace != nullptr && trace->wants(TraceTopic::block),
      .interrupt_hint = &environment_.processor(i).interrupt_hint,
      .native_tsc = config.slower == 0,
      .direct = no_direct(config) == nullptr && !relay_ ? config.direct : engine::DirectMode::Off,
      .tsc_hz = clock_.hz(),
      .group = group_.get(),
      .number = i,
      .ram_file = ram_.file(),
  };
  auto vcpu = followed_by_kvm ? lockstep::make_followed_by_kvm(context, *config.lock_step, *config.lock_step_outcome)
              : config.lock_step != nullptr
                  ? lockstep::make(context, *config.lock_step, *config.lock_step_outcome)
              : relay_ ? relay::make(*relay_, context)
                  : engine::make_vcpu(config.engine, context);
  if (!vcpu) return vcpu.error();
  processor->vcpu = vcpu.take();
  if (i != 0) processor->vcpu->state().activity = cpu::Activity::WaitForSipi;
  machine_.board.attach(i, processor->vcpu->state());
  environment_.processor(i).vcpu.store(processor->vcpu.get());
  processors_.push_back(std::move(processor));
  return {};
}

// To the engine, if that has some: before it has run anything.
Status Vm::lend_local_apics() {
  irq::MessageSink* apics = group_ == nullptr ? nullptr : group_->local_apics();
  if (apics == nullptr) return {};
  machine_.board.lend_local_apics(apics);
  for (auto& processor : processors_) {
    TRY(processor->vcpu->take_apic(machine_.board.local_apic(processor->number).lend()));
  }
  return {};
}

void Vm::RelayBoard::stop_others() {
  machine_.gate.close(0, [this](unsigned other) { machine_.environment.processor(other).kick(); });
}

void Vm::RelayBoard::go_on() {
  for (unsigned i = 1; i < machine_.environment.processors(); ++i) machine_.environment.processor(i).kick();
  machine_.gate.open();
}

void Vm::RelayBoard::attached(unsigned processor, const cpu::State& state) {
  BoardGuard board(machine_);
  board->attach(processor, state);
  board->tsc_changed(processor);
}

Status Vm::RelayBoard::lend_apics(std::span<engine::Vcpu* const> vcpus, irq::MessageSink& elsewhere) {
  BoardGuard board(machine_);
  board->lend_local_apics(&elsewhere);
  for (unsigned i = 0; i < vcpus.size(); ++i) TRY(vcpus[i]->take_apic(board->local_apic(i).lend()));
  return {};
}

// Under the lock: no message goes where the local APICs are no more.
Status Vm::RelayBoard::take_back_apics(std::span<engine::Vcpu* const> vcpus) {
  BoardGuard board(machine_);
  board->lend_local_apics(nullptr);
  for (unsigned i = 0; i < vcpus.size(); ++i) {
    const auto loan = TRY(vcpus[i]->return_apic());
    TRY(board->local_apic(i).take_back(loan));
  }
  return {};
}

}  // namespace nacre::vm
