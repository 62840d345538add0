// Vm: a machine, its vCPUs, their threads and a life.
//
//   auto vm = TRY(Vm::create(config));
//   TRY(vm->load(request));
//   vm->start();
//   … poll vm->attention() and serve the serial ports until vm->ended() …
//   Ending ending = vm->join();
//
// Threads: one per vCPU, made by start(). All functions here are for the one thread that made the Vm (the I/O
// thread), but for stop(), which any thread may call.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "board/boot/boot.hpp"
#include "cpu/model.hpp"
#include "engine/factory.hpp"
#include "engine/lockstep/lock_step.hpp"
#include "engine/relay/relay.hpp"
#include "host/guest_ram.hpp"
#include "host/mapping.hpp"
#include "vm/devices.hpp"
#include "vm/look.hpp"
#include "vm/machine.hpp"
#include "vm/turns.hpp"

namespace nacre::vm {

struct Config {
  u64 memory_bytes = 512 * kMiB;
  engine::Kind engine = engine::Kind::Interp;
  cpu::Level cpu_level = cpu::Level::Host;
  bool protection_keys = false;
  unsigned processors = 1;  // to board::kMaxProcessors
  engine::DirectMode direct = engine::DirectMode::Off;
  unsigned serial_ports = 1;
  bool debug_exit = false;
  bool test_device = false;
  std::vector<u16> debug_ports;   // at most kDebugPorts
  std::optional<u16> post_port;
  std::optional<u8> last_post_code;  // it ends the machine, as if that had switched itself off
  // A ROM to start instead of a kernel, whole pages; needed until create() returns. Empty: none.
  std::span<const u8> firmware;
  DeviceConfig devices;
  u32 trace_topics = 0;
  int trace_file = 2;
  unsigned slower = 0;  // the guest's time passes so many powers of two slower than the host's
  // Run in lock step (engine/lockstep); `engine` counts for nothing then. Both outlive the Vm.
  const lockstep::Options* lock_step = nullptr;
  lockstep::Outcome* lock_step_outcome = nullptr;
  host::ClockPair early;  // read when the program started: the longer ago, the better the TSC is known
};

class Vm {
 public:
  static Result<std::unique_ptr<Vm>> create(const Config& config);
  Vm(const Vm&) = delete;
  Vm& operator=(const Vm&) = delete;
  ~Vm();

  // Places a kernel and sets the first processor to its entry. Before start().
  Status load(const board::boot::Request& request);
  // Makes the threads, confines this one and them (host/confine.hpp), and lets the guest's first instruction
  // run.
  Status start();
  // Ends the life, if it has not ended (Ending::Kind::Stopped). Async-signal-safe.
  void stop() { environment_.end(Ending::Kind::Stopped); }

  [[nodiscard]] Attention& attention() { return attention_; }
  // The guest has halted all its processors with interrupts off: nothing but a reset would wake them.
  [[nodiscard]] bool stuck() const { return stuck_.load(); }
  [[nodiscard]] bool ended() const { return environment_.ended() != Ending::Kind::None; }

  // Output waiting at a port, in one piece; output_taken() gives back the room. The serial ports come first, then the
  // virtio console where there is one, then the debug ports.
  [[nodiscard]] std::span<const u8> output(unsigned port) {
    return is_console(port) ? devices_.console()->output() : environment_.output(ring_of(port)).front();
  }
  void output_taken(unsigned port, usize count);
  // Gives input; returns how much was taken. When that is not all, attention is raised once there is room.
  usize input(unsigned port, std::span<const u8> bytes);

  // The last power-on self-test code; less than 0: none yet.
  [[nodiscard]] int last_post_code() const { return environment_.last_post_code(); }

  void press_power_button();
  // The size of the terminal behind the virtio console.
  void resize_console(u16 columns, u16 rows) { devices_.resize_console(columns, rows); }

  // Cards that come and go while it runs.
  [[nodiscard]] Slots& slots() { return devices_.slots(); }

  // Waits for the threads; after ended().
  Ending join();
  // To be read after join(): for a dump.
  [[nodiscard]] const cpu::State& state(unsigned processor) { return processors_[processor]->vcpu->state(); }
  // What a processor has counted so far: its engine's first, then what the machine has seen of it.
  struct Count {
    const char* name;
    u64 value;
  };
  [[nodiscard]] std::vector<Count> counts(unsigned processor) const;
  [[nodiscard]] unsigned processors() const { return static_cast<unsigned>(processors_.size()); }
  [[nodiscard]] const char* engine_name() const { return engine_name_; }
  [[nodiscard]] Trace& trace() { return trace_; }
  [[nodiscard]] u64 tsc_hz() const { return clock_.hz(); }

 private:
  // The machine's side of a relay.
  class RelayBoard final : public relay::Board {
   public:
    explicit RelayBoard(Machine& machine) : machine_(machine) {}
    void stop_others() override;
    void go_on() override;
    void attached(unsigned processor, const cpu::State& state) override;
    Status lend_apics(std::span<engine::Vcpu* const> vcpus, irq::MessageSink& elsewhere) override;
    Status take_back_apics(std::span<engine::Vcpu* const> vcpus) override;

   private:
    Machine& machine_;
  };
  // What a processor that does not run was left as.
  struct Rest {
    cpu::Activity activity = cpu::Activity::Running;
    bool deaf = false;
  };
  struct Processor {
    Processor(Machine& machine, unsigned i, const cpu::Model& which, Trace* trace)
        : number(i), model(which), platform(machine, i, trace) {}
    // Power-on.
    void reset() {
      cpu::reset(vcpu->state(), false);
      vcpu->state_changed();
    }
    unsigned number;
    cpu::Model model;
    GuardedPlatform platform;
    std::unique_ptr<engine::Vcpu> vcpu;
    std::thread thread;
    std::atomic<u32> over = 0;  // its thread is about to end
  };

  Vm(const Config& config, std::optional<relay::Options> relay, const host::TscClock& clock, Attention attention, host::GuestRam ram, host::Mapping rom);

  [[nodiscard]] bool is_console(unsigned port) const { return port == serial_ports_ && devices_.console() != nullptr; }
  // The environment's, for a port that is not the console.
  [[nodiscard]] unsigned ring_of(unsigned port) const {
    if (port < serial_ports_) return port;
    return kSerialPorts + port - serial_ports_ - (devices_.console() != nullptr ? 1 : 0);
  }

  // Those this process may run on.
  static unsigned host_processors();
  static const char* no_direct(const Config& config);
  Status lend_local_apics();
  Status make_processor(unsigned i, const Config& config);
  void run_processor(Processor& processor);
  Status run_until_ended(Processor& processor);
  void apply_signals(Processor& processor);
  void sleep(Processor& processor, Rest rest);
  [[nodiscard]] bool take_turn(Processor& processor);
  void give_turn(Processor& processor);
  void give_way(Processor& processor);
  void look_whether_deaf(Processor& processor, Look& look);
  void fail(const Error& error);
  static void join_thread(Processor& processor);

  host::TscClock clock_;
  Attention attention_;
  host::GuestRam ram_;
  host::Mapping rom_;  // empty: there is none
  HostedEnvironment environment_;
  Machine machine_;
  const std::optional<relay::Options> relay_;
  RelayBoard relay_board_{machine_};
  const bool sleeps_inside_;  // processors do, in their engine, which has their local APICs
  Turns turns_;
  Devices devices_;
  unsigned serial_ports_;
  const char* const engine_name_;
  const host::ThreadRole role_;  // of the vCPU threads
  Trace trace_;
  std::unique_ptr<engine::Group> group_;  // null: the engine needs none
  std::vector<std::unique_ptr<Processor>> processors_;
  bool ram_is_zero_ = true;  // until the first load()
  std::atomic<u32> started_ = 0;
  std::atomic<bool> stuck_ = false;
  std::atomic<bool> failed_ = false;
  Error failure_;  // of the first to fail; written before the life ends with EngineFailure
};

}  // namespace nacre::vm
