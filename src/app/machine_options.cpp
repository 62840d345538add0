#include "app/machine_options.hpp"

#include <cmath>
#include <cstdio>

#include "host/fd.hpp"
#include "host/guest_ram.hpp"

namespace nacre::app {

void complain(const char* sentence) {
  // In one write, so that it stays in one piece beside the guest's output.
  // The return is for a terminal in raw mode.
  const char* end = isatty(STDERR_FILENO) != 0 ? "\r\n" : "\n";
  const std::string line = std::string("nacre: ") + sentence + end;
  host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(line.data()), line.size()});
}

void MachineOptions::add_to(CLI::App& command) {
  command.add_option("--memory", memory, "Guest memory, as 512M or 2G")
      ->type_name("SIZE")
      ->capture_default_str();
  engine_option =
      command
          .add_option(
              "--engine", engine,
              "What runs guest instructions: kvm (the processor, where it has VT-x or AMD-V), soft "
              "(translator, "
              "everywhere), interp (reference interpreter: slow), or auto, which takes the fastest that this "
              "machine can run")
          ->type_name("ENGINE")
          ->capture_default_str();
  command
      .add_option(
          "--cpu", cpu,
          "Processor the guest sees: x86-64-v2, x86-64-v3, x86-64-v4, or host for all that this one has; with \",pku\" behind it also protection keys, "
          "and then no program runs as itself")
      ->type_name("MODEL[,pku]")
      ->capture_default_str();
  command.add_option("--cpus", processors, "Number of processors, 1 to 32")
      ->type_name("COUNT")
      ->capture_default_str();
  command.add_flag("--rng,!--no-rng", rng,
                   "Give the guest a source of randomness, a virtio device (default)");
  command.add_flag("--balloon,!--no-balloon", balloon,
                   "Take back memory that the guest has freed, by a virtio device (default)");
  command
      .add_option(
          "--direct", direct,
          "Whether the soft engine may run computing programs of the guest as themselves, in a process of "
          "their own: auto or off (or always, which is slow and for tests)")
      ->type_name("MODE")
      ->capture_default_str();
  command
      .add_option("--timeout", timeout,
                  "Stop the guest after this many seconds (fractions are fine); exit status 124")
      ->type_name("SECONDS");
  command
      .add_option(
          "--log", log,
          "Trace to stderr: any of event, port, mmio, msr, control, unknown, direct, block, post, exec, "
          "last, all, with commas between (block: soft only; exec and last: interp only)")
      ->type_name("TOPICS");
  command.add_option("--log-file", log_file, "Trace to this file instead of stderr")->type_name("FILE");
  command.add_flag("-v,--verbose", verbose, "Say what is chosen and why");
}

Result<engine::Choice> engine_named(const std::string& name) {
  if (name == "auto") return engine::choose();
  if (const auto kind = engine::kind_of(name)) {
    if (auto status = engine::possible(*kind); !status) return status.error();
    return engine::Choice{*kind, "asked for by name"};
  }
  return Error("There is no engine \"")
      .append(name.c_str())
      .append("\"; there are auto, kvm, soft and interp.");
}

Result<vm::Config> MachineOptions::config(const host::ClockPair& early) const {
  vm::Config config;
  config.early = early;
  config.devices.rng = rng;
  config.devices.balloon = balloon;
  config.memory_bytes = TRY(host::parse_size(memory.c_str()));
  if (auto status = host::GuestRam::possible(config.memory_bytes); !status) return status.error();
  if (processors < 1 || processors > board::kMaxProcessors) {
    return Error("A guest cannot have ")
        .append_number(processors)
        .append(" processors; give it 1 to ")
        .append_number(board::kMaxProcessors)
        .append(", as in --cpus 2.");
  }
  config.processors = processors;
  const engine::Choice choice = TRY(engine_named(engine));
  config.engine = choice.kind;
  constexpr std::string_view kKeys = ",pku";
  config.protection_keys = cpu.ends_with(kKeys);
  const std::string model = config.protection_keys ? cpu.substr(0, cpu.size() - kKeys.size()) : cpu;
  if (!cpu::Model::parse(model.c_str(), config.cpu_level)) {
    return Error("There is no CPU model \"")
        .append(cpu.c_str())
        .append("\"; there are x86-64-v2, x86-64-v3, x86-64-v4 and host, each with \",pku\" behind it or not.");
  }
  if (direct != "auto" && direct != "off" && direct != "always")
    return Error{"--direct takes auto, off or always."};
  config.direct = direct == "off"    ? engine::DirectMode::Off
                  : direct == "auto" ? engine::DirectMode::Auto
                                     : engine::DirectMode::Always;
  if (!std::isfinite(timeout) || timeout < 0 || timeout > 1e9)
    return Error{"--timeout wants seconds, as 30 or 0.5."};
  if (!log.empty()) {
    config.trace_topics = vm::trace_topics(log.c_str());
    if (config.trace_topics == 0) {
      return Error("\"")
          .append(log.c_str())
          .append(
              "\" is not what --log takes: event, port, mmio, msr, control, unknown, direct, block, post, "
              "exec, "
              "last or all, with commas between.");
    }
  }
  if (!log_file.empty()) {
    auto file = TRY(host::open_for_writing(log_file.c_str()));
    config.trace_file = dup(file.number());  // stays open until the program ends
  }
  if (verbose || (engine == "auto" && engine_option != nullptr && engine_option->count() != 0)) {
    complain((std::string("engine ") + engine::name_of(choice.kind) + ": " + choice.reason + ".").c_str());
  }
  return config;
}

}  // namespace nacre::app
