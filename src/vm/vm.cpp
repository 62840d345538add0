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
  options.test_device = config.test_device;
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

// It is asleep, and no interrupt would wake it.
bool is_deaf(const cpu::State& state) {
  if (state.activity == cpu::Activity::WaitForSipi) return true;
  return state.activity == cpu::Activity::Halted && (state.rflags & x86::Rflags::IF) == 0 && state.nmi_pending == 0;
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
  auto relay = TRY(relay::asked());
  // One that sleeps in its engine would keep the turn that another waits for.
  if (relay && config.processors > host_processors()) return Error{"NACRE_RELAY wants no more processors than the host has."};
  std::unique_ptr<Vm> vm(new Vm(config, std::move(relay), clock, std::move(attention), std::move(ram), std::move(rom)));
  if (auto status = vm->devices_.create(config.devices, config.processors); !status) return status.error();
  if (auto status = vm->machine_.board.assemble(); !status) return status.error();
  const memory::AddressSpace& memory = vm->machine_.board.memory();
  vm->group_ = vm->relay_ ? TRY(relay::make_group(*vm->relay_, memory, config.processors, vm->relay_board_)) : TRY(engine::make_group(config.engine, memory, config.processors, engine::Apics::Engine));
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

Vm::Vm(const Config& config, std::optional<relay::Options> relay, const host::TscClock& clock, Attention attention, host::GuestRam ram, host::Mapping rom)
    : clock_(clock),
      attention_(std::move(attention)),
      ram_(std::move(ram)),
      rom_(std::move(rom)),
      environment_(clock_, attention_, config.processors),
      machine_(board_options(config, ram_, rom_, clock.hz()), environment_),
      relay_(std::move(relay)),
      sleeps_inside_(config.lock_step == nullptr && !relay_ && engine::has_local_apics(config.engine)),
      turns_(config.processors, sleeps_inside_ ? config.processors : host_processors(), [this] { return clock_.now(); },
             [this](unsigned i) { environment_.processor(i).vcpu.load()->kick(); }),
      devices_(machine_),
      serial_ports_(config.serial_ports),
      engine_name_(config.lock_step != nullptr ? "lock step" : relay_ ? "relay" : engine::name_of(config.engine)),
      role_(engine::role_of((relay_ && relay_->has(engine::Kind::Kvm)) || (config.lock_step != nullptr && config.lock_step->by_kvm) ? engine::Kind::Kvm : config.engine)),
      trace_(config.trace_topics, config.trace_file, machine_.board.memory(), clock_) {
  if (config.last_post_code) environment_.end_at_post_code(*config.last_post_code);
  if (trace_.wants(TraceTopic::post)) environment_.trace_post_codes(&trace_);
}

Vm::~Vm() {
  stop();
  for (auto& processor : processors_) join_thread(*processor);
  devices_.stop();
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
  for (const auto& processor : std::span(processors_).subspan(1)) {
    board::boot::set_memory_types(processor->vcpu->state());
    processor->vcpu->state_changed();
  }
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

std::vector<Vm::Count> Vm::counts(unsigned processor) const {
  std::vector<Count> counts;
  Processor& one = *processors_[processor];
  for (const engine::NamedCounter& each : one.vcpu->counters()) counts.push_back({each.name, each.counter->value()});
  const auto seen = one.platform.counters().all();
  for (usize i = 0; i < seen.size(); ++i) counts.push_back({ProcessorCounters::kNames[i], seen[i]->value()});
  return counts;
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
    const bool was_off = take_turn(processor);
    machine_.gate.enter(processor.number);
    if (was_off) processor.vcpu->state_changed();
    apply_signals(processor);
    machine_.dma.enter(processor.number, *processor.vcpu);
    const engine::Exit exit = processor.vcpu->run();
    machine_.dma.leave(processor.number);
    Rest rest;
    if (exit.reason == engine::ExitReason::Halted) {
      processor.platform.counters().sleep.count();
      const cpu::State& state = processor.vcpu->glance();
      rest = {state.activity, is_deaf(state)};
      give_turn(processor);
    } else if (exit.reason == engine::ExitReason::Kicked) {
      processor.platform.counters().kick.count();
      give_way(processor);
      if (look) look_whether_deaf(processor, *look);
    } else if (exit.reason == engine::ExitReason::Shutdown) {
      environment_.end(Ending::Kind::TripleFault);
    } else if (exit.reason == engine::ExitReason::Failed) {
      fail(exit.error);
    }
    // Behind the gate nothing of the processor is touched: whoever closes it may have all of them in hand.
    machine_.gate.leave(processor.number);
    if (exit.reason == engine::ExitReason::Halted) sleep(processor, rest);
  }
  give_turn(processor);
  BoardGuard board(machine_);
  machine_.timers[processor.number].timer = nullptr;
  return {};
}

// True: what it was kept off changes its state, by what others have asked of it meanwhile.
bool Vm::take_turn(Processor& processor) {
  if (turns_.has(processor.number)) return false;
  const u64 kept_off = turns_.take(processor.number);
  return machine_.board.steal_time(processor.number).comes_back(kept_off);
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
  if (link.non_maskable.load(std::memory_order_relaxed) != 0) {
    cpu::State& state = processor.vcpu->state();
    const unsigned most = state.nmi_blocked ? 1 : 2, now = state.nmi_pending + link.non_maskable.exchange(0);
    state.nmi_pending = static_cast<u8>(now < most ? now : most);
    processor.vcpu->activity_changed();
  }
  if (link.unhalted.load(std::memory_order_relaxed) && processor.vcpu->glance().activity == cpu::Activity::Halted) {
    link.unhalted.store(false);
    processor.vcpu->state().activity = cpu::Activity::Running;
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

void Vm::sleep(Processor& processor, Rest rest) {
  ProcessorLink& link = environment_.processor(processor.number);
  if (rest.activity == cpu::Activity::Halted && link.unhalted.load(std::memory_order_relaxed)) return;  // apply_signals()
  u64 duration = host::kForever;
  {
    BoardGuard board(machine_);
    link.deaf = rest.deaf;
    if (rest.deaf && environment_.all_deaf() && !stuck_.exchange(true)) attention_.raise();
    const u64 deadline = board->next_deadline(processor.number);
    const u64 now = clock_.now();
    if (deadline <= now) return;
    if (deadline != board::kNever) duration = clock_.on_host(deadline - now);
  }
  link.wake.sleep(duration);
}

}  // namespace nacre::vm
