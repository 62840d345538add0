#include "vm/vm.hpp"

#include <malloc.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "cpu/host_cpuid.hpp"
#include "host/confine.hpp"
#include "host/error.hpp"
#include "host/signals.hpp"
#include "vm/kick_handler.hpp"

namespace nacre::vm {
namespace {

board::Options board_options(const Config& config, const host::GuestRam& ram, const host::Mapping& rom, u64 tsc_hz) {
  board::Options options;
  options.memory_bytes = ram.size();
  options.ram = ram.data();
  options.page_flags = ram.page_flags();
  options.tsc_hz = tsc_hz;
  options.processors = config.processors;
  options.serial_ports = config.serial_ports;
  options.debug_exit = config.debug_exit;
  for (const u16 port : config.debug_ports) options.debug_ports[options.debug_port_count++] = port;
  options.post_port = config.post_port;
  options.firmware = rom.data();
  options.firmware_flags = ram.page_flags() + ram.size() / kPageSize;
  options.firmware_bytes = rom.data() == nullptr ? 0 : rom.size();
  return options;
}

// Read-only, so that nothing here can write to it by mistake either.
Result<host::Mapping> make_rom(std::span<const u8> bytes) {
  if (bytes.empty()) return host::Mapping{};
  auto rom = TRY(host::Mapping::anonymous(bytes.size()));
  __builtin_memcpy(rom.data(), bytes.data(), bytes.size());
  if (mprotect(rom.data(), rom.size(), PROT_READ) != 0) return host::errno_error("Cannot protect", "the firmware's copy");
  return rom;
}

// Those this process may run on.
unsigned host_processors() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return board::kMaxProcessors;  // more than it can count
  return static_cast<unsigned>(CPU_COUNT(&set));
}

// Which paravirtual features a guest of KVM cannot have. What the local APIC and the scheduler have a part in is KVM's
// where the local APICs are; with ours, hypercalls, which are always KVM's, know nothing of them, and nobody flushes TLBs.
u32 not_from_kvm(const cpu::HostCpuid& kvm, bool apics_in_kvm) {
  using cpu::KvmFeature;
  constexpr u32 kFeatures = 0x40000001;
  constexpr u32 kOnlyKvm = KvmFeature::PV_UNHALT | KvmFeature::PV_SEND_IPI | KvmFeature::PV_TLB_FLUSH;
  if (!apics_in_kvm) return kOnlyKvm;
  return (kOnlyKvm | KvmFeature::PV_EOI | KvmFeature::STEAL_TIME) & ~kvm.leaf(kFeatures, 0).eax;
}

// Why programs of such a guest are not run as themselves; null: they may be.
const char* no_direct(const Config& config) {
  // They would see the host's processor, which is not what the guest was promised.
  if (config.cpu_level != cpu::Level::Host) return "the CPU model is not host.";
  return nullptr;
}

// It is asleep, and no interrupt would wake it.
bool is_deaf(const cpu::State& state) {
  if (state.activity == cpu::Activity::WaitForSipi) return true;
  return state.activity == cpu::Activity::Halted && (state.rflags & x86::Rflags::IF) == 0 && !state.nmi_pending;
}

}  // namespace

Result<std::unique_ptr<Vm>> Vm::create(const Config& config) {
  if (auto status = host::SignalDispatcher::install(); !status) return status.error();
  // One heap for all threads: glibc's further ones read /proc now and then, which confined threads may not.
  mallopt(M_ARENA_MAX, 1);
  if (config.debug_ports.size() > kDebugPorts)
    return Error("A guest can have at most ").append_number(kDebugPorts).append(" debug ports.");
  auto ram = TRY(host::GuestRam::create(config.memory_bytes, config.firmware.size() / kPageSize));
  auto rom = TRY(make_rom(config.firmware));
  auto attention = TRY(Attention::create());
  const host::TscClock clock(host::tsc_frequency(config.early), config.slower);
  std::unique_ptr<Vm> vm(new Vm(config, clock, std::move(attention), std::move(ram), std::move(rom)));
  if (auto status = vm->devices_.create(config.devices, config.processors); !status) return status.error();
  if (auto status = vm->machine_.board.assemble(); !status) return status.error();
  vm->group_ = TRY(engine::make_group(config.engine, vm->machine_.board.memory(), config.processors));
  vm->machine_.group = vm->group_.get();
  for (unsigned i = 0; i < config.processors; ++i) {
    if (auto status = vm->make_processor(i, config); !status) return status.error();
  }
  if (!config.firmware.empty()) vm->processors_.front()->reset();
  if (auto status = vm->lend_local_apics(); !status) return status.error();
  const bool asked = config.engine == engine::Kind::Soft && config.direct != engine::DirectMode::Off;
  if (const char* why = no_direct(config); asked && why != nullptr) vm->trace_.direct(why);
  return vm;
}

Vm::Vm(const Config& config, const host::TscClock& clock, Attention attention, host::GuestRam ram, host::Mapping rom)
    : clock_(clock),
      attention_(std::move(attention)),
      ram_(std::move(ram)),
      rom_(std::move(rom)),
      environment_(clock_, attention_, config.processors),
      machine_(board_options(config, ram_, rom_, clock.hz()), environment_),
      sleeps_inside_(config.lock_step == nullptr && engine::has_local_apics(config.engine)),
      turns_(config.processors, sleeps_inside_ ? config.processors : host_processors(), [this] { return clock_.now(); },
             [this](unsigned i) { environment_.processor(i).vcpu.load()->kick(); }),
      devices_(machine_),
      serial_ports_(config.serial_ports),
      role_(config.engine == engine::Kind::Kvm ? host::ThreadRole::KvmProcessor : host::ThreadRole::Processor),
      trace_(config.trace_topics, config.trace_file, machine_.board.memory(), clock_) {
  if (config.last_post_code) environment_.end_at_post_code(*config.last_post_code);
  if (trace_.wants(TraceTopic::post)) environment_.trace_post_codes(&trace_);
}

Vm::~Vm() {
  stop();
  for (auto& processor : processors_) join_thread(*processor);
  devices_.stop();
}

Status Vm::make_processor(unsigned i, const Config& config) {
  const auto host = TRY(engine::processor_of(config.engine));
  cpu::Model::Options options;
  options.execution = host.execution;
  options.level = config.cpu_level;
  options.processors = config.processors;
  options.apic_id = i;
  options.tsc_hz = clock_.hz();
  // Where each vCPU has a host processor, one that sleeps can be woken at once: it is not to be taken for one that is
  // kept off.
  using cpu::KvmFeature;
  const bool scarce = turns_.scarce() || (sleeps_inside_ && config.processors > host_processors());
  if (scarce) options.kvm_features |= KvmFeature::STEAL_TIME | KvmFeature::PV_TLB_FLUSH;
  if (config.engine == engine::Kind::Kvm) options.kvm_features &= ~not_from_kvm(*host.cpuid, sleeps_inside_);
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
      .direct = no_direct(config) == nullptr ? config.direct : engine::DirectMode::Off,
      .tsc_hz = clock_.hz(),
      .group = group_.get(),
      .number = i,
      .ram_file = ram_.file(),
  };
  auto vcpu = config.lock_step != nullptr
                  ? lockstep::make(context, *config.lock_step, *config.lock_step_outcome)
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

Status Vm::load(const board::boot::Request& request) {
  const board::boot::Machine machine = {machine_.board.memory(), machine_.board.options().memory_bytes,
                                        machine_.board.rsdp(), ram_is_zero_};
  ram_is_zero_ = false;
  engine::Vcpu& first = *processors_.front()->vcpu;
  board::boot::Request placed = request;
  placed.random = environment_.random();
  if (auto status = board::boot::load(machine, placed, first.state()); !status) return status.error();
  first.state_changed();
  return {};
}

Status Vm::start() {
  for (auto& processor : processors_) {
    processor->thread = std::thread([this, &one = *processor] { run_processor(one); });
  }
  devices_.start([this](const Error& error) { fail(error); });
  auto confined = host::confine(host::ThreadRole::InputOutput);
  started_.store(1);
  host::futex_wake(started_, 1 << 30);
  return confined;
}

void Vm::output_taken(unsigned port, usize count) {
  if (is_console(port)) return devices_.console()->output_taken(count);
  environment_.output(ring_of(port)).take(count);
  environment_.drained().fetch_add(1);
  host::futex_wake(environment_.drained(), 1 << 30);
}

usize Vm::input(unsigned port, std::span<const u8> bytes) {
  if (is_console(port)) return devices_.console()->input(bytes);
  if (ring_of(port) >= kSerialPorts) return bytes.size();  // a debug port, which nobody reads
  auto& ring = environment_.input(port);
  usize taken = 0;
  for (bool asked = false; taken < bytes.size();) {
    if (ring.put(bytes[taken])) {
      ++taken;
    } else if (!asked) {
      environment_.want_input_space();  // first said, then looked again: no room is missed
      asked = true;
    } else {
      break;
    }
  }
  BoardGuard board(machine_);
  board.feed(port);
  return taken;
}

void Vm::press_power_button() {
  BoardGuard board(machine_);
  board->press_power_button();
}

void Vm::join_thread(Processor& processor) {
  if (!processor.thread.joinable()) return;
  // One kick is enough. An engine that heeds it not in ten seconds is broken, and a process that cannot be
  // ended would be worse than one that says so.
  host::futex_wait(processor.over, 0, 10'000'000'000);
  NACRE_CHECK(processor.over.load() != 0);
  processor.thread.join();
}

Ending Vm::join() {
  for (auto& processor : processors_) join_thread(*processor);
  devices_.stop();
  return {environment_.ended(), environment_.ending_code(), failure_};
}

void Vm::fail(const Error& error) {
  if (failed_.exchange(true)) return;
  failure_ = error;
  environment_.end(Ending::Kind::EngineFailure);
}

void Vm::run_processor(Processor& processor) {
  // Signals meant for the program (SIGINT, SIGTERM, …) are the I/O thread's. SIGCHLD is not blocked, as a
  // blocked signal is not ignored: each stop of the direct stub would wake the I/O thread.
  sigset_t all;
  sigfillset(&all);
  for (const int own :
       {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGCHLD, host::SignalDispatcher::kick_signal()})
    sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), "vcpu");
  prctl(PR_SET_TIMERSLACK, 1);  // ns; a guest's timers are as good as the host's

  if (const auto status = run_until_ended(processor); !status) fail(status.error());
  processor.over.store(1);
  host::futex_wake(processor.over, 1);
}

Status Vm::run_until_ended(Processor& processor) {
  auto stack = TRY(host::SignalStack::enter());
  auto timer = TRY(host::KickTimer::create());
  std::optional<Look> look;
  if (sleeps_inside_) look.emplace(TRY(Look::create()));
  KickHandler kick_handler(*processor.vcpu, machine_.timers[processor.number]);
  host::FaultScope scope(kick_handler);
  {
    BoardGuard board(machine_);
    machine_.timers[processor.number].timer = &timer;
  }
  if (auto without = processor.vcpu->enter_thread(); !without) trace_.direct(without.error().message());
  if (auto status = host::confine(role_); !status) return status.error();
  while (started_.load() == 0) host::futex_wait(started_, 0);
  ProcessorLink& link = environment_.processor(processor.number);
  while (!ended()) {
    {
      BoardGuard board(machine_);
      board.advance(processor.number);
    }
    if (!look && link.deaf.load(std::memory_order_relaxed)) link.deaf = false;  // before what woke it is taken note of
    apply_signals(processor);
    take_turn(processor);
    machine_.gate.enter(processor.number);
    machine_.dma.enter(processor.number, *processor.vcpu);
    const engine::Exit exit = processor.vcpu->run();
    machine_.dma.leave(processor.number);
    machine_.gate.leave(processor.number);
    if (exit.reason == engine::ExitReason::Halted) {
      give_turn(processor);
      sleep(processor);
    } else if (exit.reason == engine::ExitReason::Kicked) {
      give_way(processor);
      if (look) look_whether_deaf(processor, *look);
    } else if (exit.reason == engine::ExitReason::Shutdown) {
      environment_.end(Ending::Kind::TripleFault);
    } else if (exit.reason == engine::ExitReason::Failed) {
      fail(exit.error);
    }
  }
  give_turn(processor);
  BoardGuard board(machine_);
  machine_.timers[processor.number].timer = nullptr;
  return {};
}

void Vm::take_turn(Processor& processor) {
  if (turns_.has(processor.number)) return;
  const u64 kept_off = turns_.take(processor.number);
  if (machine_.board.steal_time(processor.number).comes_back(kept_off)) processor.vcpu->state_changed();
}

void Vm::give_turn(Processor& processor) {
  if (!turns_.scarce() || !turns_.has(processor.number)) return;
  machine_.board.steal_time(processor.number).leaves();
  turns_.give(processor.number);
}

// Lets another vCPU run that waits for that, at a moment at which this one holds nothing the other could need.
void Vm::give_way(Processor& processor) {
  using Asked = Turns::Asked;
  const Asked asked = turns_.asked(processor.number);
  if (asked == Asked::No) return;
  const cpu::State& state = processor.vcpu->glance();
  Asked needed = Asked::AtOnce;
  if ((state.rflags & x86::Rflags::IF) != 0) needed = state.cpl() == 3 ? Asked::InUserMode : Asked::WithInterruptsOn;
  if (asked >= needed) give_turn(processor);
}

void Vm::apply_signals(Processor& processor) {
  ProcessorLink& link = environment_.processor(processor.number);
  if (link.init.load(std::memory_order_relaxed) && link.init.exchange(false)) {
    cpu::reset(processor.vcpu->state(), true);
    if (processor.number != 0) processor.vcpu->state().activity = cpu::Activity::WaitForSipi;
    processor.vcpu->state_changed();
  }
  if (link.non_maskable.load(std::memory_order_relaxed) && link.non_maskable.exchange(false)) {
    processor.vcpu->state().nmi_pending = true;
    processor.vcpu->activity_changed();
  }
  if (link.start_up.load(std::memory_order_relaxed) >= 0) {
    const int page = link.start_up.exchange(-1);
    cpu::State& state = processor.vcpu->state();
    if (page < 0 || state.activity != cpu::Activity::WaitForSipi) return;
    // SDM vol. 3, 8.4.4.1: execution starts at 000VV000H.
    state.segment[x86::CS].selector = static_cast<u16>(page << 8);
    state.segment[x86::CS].base = static_cast<u64>(page) << 12;
    state.rip = 0;
    state.activity = cpu::Activity::Running;
    processor.vcpu->state_changed();
  }
}

// One that sleeps inside its engine is not seen to. At two looks of one processor, between which all others have looked
// too: then none of them has been woken after it was found deaf.
void Vm::look_whether_deaf(Processor& processor, Look& look) {
  if (!look.is_due()) return;
  const bool deaf = is_deaf(processor.vcpu->glance());
  bool all = false;
  {
    BoardGuard board(machine_);
    environment_.processor(processor.number).deaf = deaf;
    all = deaf && environment_.all_deaf();
  }
  const bool stuck = all && (look.all_were_deaf || processors_.size() == 1);
  look.all_were_deaf = all;
  if (stuck && !stuck_.exchange(true)) attention_.raise();
}

void Vm::sleep(Processor& processor) {
  const cpu::State& state = processor.vcpu->glance();
  ProcessorLink& link = environment_.processor(processor.number);
  if (link.unhalted.load(std::memory_order_relaxed) && state.activity == cpu::Activity::Halted) {
    link.unhalted.store(false);
    processor.vcpu->state().activity = cpu::Activity::Running;
    return processor.vcpu->activity_changed();
  }
  const bool deaf = is_deaf(state);
  u64 duration = host::kForever;
  {
    BoardGuard board(machine_);
    link.deaf = deaf;
    if (deaf && environment_.all_deaf() && !stuck_.exchange(true)) attention_.raise();
    const u64 deadline = board->next_deadline(processor.number);
    const u64 now = clock_.now();
    if (deadline <= now) return;
    if (deadline != board::kNever) duration = clock_.on_host(deadline - now);
  }
  link.wake.sleep(duration);
}

}  // namespace nacre::vm
