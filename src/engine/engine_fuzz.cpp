// No guest can hurt an engine: whatever bytes it executes, in whatever mode, whenever it is kicked, run()
// comes back, and nothing but the guest's memory is touched. The same input runs on every engine. A guest
// that goes on for ever is kicked, a few times, and left then.
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <memory>

#include "engine/factory.hpp"
#include "host/signals.hpp"
#include "interp/fuzz_machine.hpp"

namespace nacre::engine {
namespace {

// Kicks this thread's vCPU after a while, as the VM's timers do.
class Alarm final : private host::FaultHandler {
 public:
  Alarm() {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = host::SignalDispatcher::kick_signal();
    event._sigev_un._tid = gettid();
    NACRE_CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer_) == 0);
  }
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  Exit run(Vcpu& vcpu, long nanoseconds) {
    vcpu_ = &vcpu;
    const host::FaultScope scope(*this);
    set(nanoseconds);
    Exit exit = vcpu.run();
    set(0);
    return exit;
  }

 private:
  void set(long nanoseconds) {
    const itimerspec once = {{0, 0}, {0, nanoseconds}};
    timer_settime(timer_, 0, &once, nullptr);
  }
  bool handle(int signal, siginfo_t*, ucontext_t*) override {
    if (signal != host::SignalDispatcher::kick_signal()) return false;
    vcpu_->kick();
    return true;
  }

  timer_t timer_ = {};
  Vcpu* vcpu_ = nullptr;
};

struct Host {
  host::SignalStack stack;
  Alarm alarm;

  static Host& get() {
    NACRE_CHECK(host::SignalDispatcher::install().ok());
    static Host* host = new Host{host::SignalStack::enter().take(), {}};
    return *host;
  }
};

const cpu::Model& model() {
  static const cpu::Model model = cpu::Model::create(cpu::NativeCpuid(), {}).take();
  return model;
}

void run(Kind kind, const std::uint8_t* data, std::size_t size) {
  constexpr int kMostExits = 6;
  Host& host = Host::get();
  interp::Input input(data, size);
  interp::Machine machine;
  interp::choose_machine(machine, input);
  // An interrupt comes when the guest lets it, if the input has it so.
  if (size % 4 == 3) machine.platform.interrupts.push_back(32 + static_cast<int>(size % 32));
  auto vcpu = make_vcpu(kind, EngineContext{machine.memory(), machine.platform, model()});
  NACRE_CHECK(vcpu.ok());
  Vcpu& v = *vcpu.value();
  v.state() = machine.state;
  v.state_changed();
  for (int exits = 0; exits < kMostExits; ++exits) {
    // Soon, to come into the middle of things; then late, for the rest to run.
    const ExitReason reason =
        host.alarm.run(v, exits < kMostExits - 1 ? 2000 << (2 * exits) : 1'000'000).reason;
    NACRE_CHECK(reason != ExitReason::Failed);
    if (reason == ExitReason::Shutdown) return;
    if (reason == ExitReason::Halted) {
      if (exits != 0) return;
      v.state().nmi_pending = 1;  // wakes it once
    }
  }
}

}  // namespace
}  // namespace nacre::engine

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using nacre::engine::Kind;
  for (const Kind kind : {Kind::Interp, Kind::Soft}) nacre::engine::run(kind, data, size);
  return 0;
}
