#include "app/boot_command.hpp"

#include <algorithm>

#include "app/console.hpp"
#include "app/disk_option.hpp"
#include "app/exit_status.hpp"
#include "app/firmware_options.hpp"
#include "app/guest_shares.hpp"
#include "app/kernel_file.hpp"
#include "app/life/control_process.hpp"
#include "app/session.hpp"
#include "app/vsock_option.hpp"
#include "engine/lockstep/follow_kvm.hpp"
#include "host/file_bytes.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter = R"(Exit status:
  0    the guest switched itself off, or wrote the code of --post-port PORT,end=CODE
  2    wrong options or unusable files; nothing was started
  4    the guest asked for a reset
  6    the guest's processor shut down (triple fault)
  8    Nacre's engine could not go on
  10   the guest's output could not be written
  12   ended by Ctrl-A x
  16   the guest's kernel panicked and said so (its pvpanic module)
  124  ended by --timeout
  odd  the guest wrote V to the debug-exit port (--debug-exit): (V << 1) | 1
  A signal (Ctrl-C without a terminal, kill) ends nacre by that signal.

On a terminal all keys go to the guest, but for Ctrl-A:
  Ctrl-A x  end the machine     Ctrl-A p  press its power button
  Ctrl-A h  help                Ctrl-A Ctrl-A  send Ctrl-A
Without a terminal every byte goes through as it is, and the end of the input does not end the machine.

Examples:
  nacre boot --kernel vmlinuz --initrd initrd.img --append 'console=ttyS0'
  nacre boot --kernel tests/kernel.elf --module 'user.elf arg' --debug-exit --timeout 10
  nacre boot --firmware test.bin --debug-port 0xe9=out.txt --post-port 0x190,end=0xff --timeout 60
)";

constexpr unsigned kSlowerInLockStep = 6;

// A multiboot module: "FILE ARGS"; the guest is given the whole text.
struct ModuleFile {
  host::FileBytes file;
  std::string_view text;
};

Result<host::FileBytes> read_part(const std::string& path, const char* what, u64 memory) {
  return host::FileBytes::read(path.c_str(), what, memory, "the guest's memory",
                               "; give it more with --memory");
}

Result<std::vector<ModuleFile>> read_modules(const std::vector<std::string>& texts, u64 memory) {
  std::vector<ModuleFile> modules;
  for (const std::string& text : texts) {
    const std::string path = text.substr(0, text.find(' '));
    modules.push_back({TRY(read_part(path, "module", memory)), text});
  }
  return modules;
}

int status_of(const Session::Outcome& outcome, const Console& console) {
  using Cause = Session::Cause;
  switch (outcome.cause) {
    case Cause::TimeLimit:
      complain("The time limit is over; the guest was stopped.");
      return ExitStatus::time_limit;
    case Cause::User:
      return ExitStatus::quit;
    case Cause::Signal:
      die_by(outcome.signal);
    case Cause::Output:
      if (!console.stream().reader_gone()) complain("Cannot write the guest's output.");
      return ExitStatus::output_failed;
    case Cause::Guest:
      break;
  }
  using Kind = vm::Ending::Kind;
  switch (outcome.ending.kind) {
    case Kind::None:
    case Kind::Stopped:
    case Kind::PowerOff:
      return ExitStatus::power_off;
    case Kind::Reset:
      return ExitStatus::reset;
    case Kind::DebugExit:
      return debug_exit_status(outcome.ending.code);
    case Kind::TripleFault:
      complain(
          "The guest's processor has shut down: a fault while it handled a double fault (triple fault).");
      return ExitStatus::triple_fault;
    case Kind::Panic:
      complain("The guest's kernel has panicked.");
      return ExitStatus::panicked;
    case Kind::EngineFailure:
      complain(outcome.ending.error);
      return ExitStatus::engine_failure;
  }
  return ExitStatus::engine_failure;
}

}  // namespace

BootCommand::BootCommand(CLI::App& app)
    : BootCommand(
          app.add_subcommand("boot", "Boot a kernel: Linux (bzImage, vmlinux), PVH ELF or multiboot 1")) {
  command_->footer(kFooter);
  command_->add_option("--kernel", kernel_, "The kernel: bzImage, x86-64 ELF, PVH ELF or multiboot 1 ELF")->type_name("FILE");
  command_
      ->add_option("--firmware", firmware_,
                   "Instead of a kernel, start this ROM at the reset vector: it ends at 4 GiB, its last 256 KiB are also below 1 MiB")
      ->type_name("FILE");
  command_
      ->add_option("--debug-port", debug_ports_,
                   "Give the guest this port: a byte written there goes to FILE (or stdio, stderr), reading it gives 0xe9; may be given "
                   "again, up to four times")
      ->type_name("PORT=FILE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--post-port", post_port_,
                   "Take power-on self-test codes from this port and tell the last at the end (all of them: --log post); CODE ends the "
                   "machine, exit status 0")
      ->type_name("PORT[,end=CODE]");
  auto* const control =
      command_
          ->add_option("--control", control_,
                       "Make this Unix socket, at which nacre attach and nacre detach reach the machine")
          ->type_name("PATH");
  command_->add_option("--slots", slots_, "Slots for devices that come while it runs, 1 to 8; wants --control")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 8))
      ->needs(control);
}

BootCommand::BootCommand(CLI::App* command) : command_(command) {
  command_->add_option("--initrd", initrd_, "Initial RAM disk")->type_name("FILE");
  command_->add_option("--append", append_, "Kernel command line")->type_name("TEXT");
  command_
      ->add_option("--module", modules_, "Multiboot module: a file and its command line; may be given again")
      ->type_name("'FILE ARGS'")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_option("--serial", serial_, "Where COM1 goes: stdio, file:PATH (output only) or none")
      ->type_name("PLACE")
      ->capture_default_str();
  command_
      ->add_option("--console", console_,
                   "Give the guest a virtio console (/dev/hvc0, console=hvc0) and say where it goes, as with --serial; at "
                   "stdio, COM1 goes nowhere unless --serial says where")
      ->type_name("PLACE");
  command_->add_flag("--debug-exit", debug_exit_,
                     "Give the guest port 0xf4: writing V there ends the machine, status (V << 1) | 1");
  command_->add_flag("--test-device", test_device_,
                     "Give the guest QEMU's test device: interrupt lines at ports 0x2000 to 0x2017, a register at 0xe0, "
                     "64 KiB of device memory at 0xff000000");
  command_
      ->add_option("--disk", disks_,
                   "Give the guest this disk image (/dev/vda and on), qcow2 if it is named .qcow2, else raw, unless "
                   "format= says; may be given again")
      ->type_name("FILE[,readonly][,format=raw|qcow2][,iops=N][,bandwidth=BYTES]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--vsock", vsock_,
                   "Give the guest a socket device, CID 3 or N. Programs of the host connect to this Unix socket and say "
                   "\"CONNECT port\"; port P of the host is the Unix socket PATH_P")
      ->type_name("PATH[,cid=N]");
  command_
      ->add_option("--net", networks_,
                   "Give the guest a network: user (address translation, no privilege; publish=[ADDRESS:]HOST:GUEST[/udp], "
                   "hostname=NAME, host=no), tap=NAME, or switch=FOLDER (among guests); all with mac=MAC, mtu=BYTES, queues=COUNT, "
                   "capture=FILE; may be given again")
      ->type_name("KIND[,OPTION=VALUE...]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--share", shares_,
                   "Share this folder with the guest, which mounts it: mount -t virtiofs NAME /mnt (NAME: the folder's, unless told); may be "
                   "given again")
      ->type_name("FOLDER[,readonly][,tag=NAME][,user=UID][,group=GID]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  machine_.add_to(*command_);
}

int BootCommand::run(const host::ClockPair& early) {
  auto status = try_run(early, kernel_, nullptr, nullptr);
  if (status) return status.value();
  complain(status.error());
  return ExitStatus::bad_input;
}

// What cannot be together, before anything is opened.
Status BootCommand::check_start(const std::string& kernel) const {
  if (firmware_.empty() == kernel.empty()) {
    return Error(firmware_.empty() ? "There is nothing to start; say which kernel (--kernel FILE) or which ROM (--firmware FILE)."
                                   : "A machine starts a kernel or firmware, not both; give one of --kernel and --firmware.");
  }
  if (firmware_.empty()) return {};
  for (const char* option : {"--append", "--initrd", "--module"}) {
    if (command_->count(option) != 0) return Error(option).append(" is for kernels; firmware takes none. Leave it out.");
  }
  return {};
}

// The files' bytes live only as long as this takes.
Status BootCommand::load(vm::Vm& vm, const vm::Config& config, const std::string& kernel) {
  host::FileBytes initrd;
  if (!initrd_.empty()) initrd = TRY(read_part(initrd_, "initial RAM disk", config.memory_bytes));
  const auto module_files = TRY(read_modules(modules_, config.memory_bytes));
  std::vector<board::boot::Module> modules;
  for (const ModuleFile& module : module_files) modules.push_back({module.file.bytes(), module.text});

  board::boot::Request request;
  request.command_line = append_;
  request.initrd = initrd.bytes();
  request.modules = modules;
  return load_kernel(vm, kernel, config.memory_bytes, request);
}

Result<int> BootCommand::try_run(const host::ClockPair& early, const std::string& kernel,
                                 const lockstep::Options* lock_step, lockstep::Outcome* found) {
  TRY(check_start(kernel));
  const auto signals = TRY(SignalEvents::create());
  vm::Config config = TRY(machine_.config(early));
  host::FileBytes firmware;
  if (!firmware_.empty()) firmware = TRY(read_firmware(firmware_));
  config.firmware = firmware.bytes();
  std::vector<DebugPort> debug_ports;
  for (const std::string& text : debug_ports_) {
    debug_ports.push_back(TRY(debug_port_of(text)));
    config.debug_ports.push_back(debug_ports.back().port);
  }
  if (!post_port_.empty()) {
    const PostPort post = TRY(post_port_of(post_port_));
    config.post_port = post.port;
    config.last_post_code = post.end;
  }
  config.debug_exit = debug_exit_;
  config.test_device = test_device_;
  for (const std::string& text : disks_) config.devices.disks.push_back(TRY(parse_disk(text)));
  if (!vsock_.empty()) config.devices.vsock = TRY(parse_vsock(vsock_));
  for (const std::string& text : networks_) config.devices.networks.push_back(TRY(net::parse(text)));
  config.devices.shares = TRY(parse_shares(shares_));
  for (const share::ShareConfig& share : config.devices.shares) {
    if (!share.at.empty()) return Error{"nacre boot leaves it to the guest where a shared folder is mounted; --share takes no at= here."};
  }
  config.lock_step = lock_step;
  config.lock_step_outcome = found;
  if (lock_step != nullptr && lock_step->by_kvm) {
    TRY(lockstep::kvm_can_follow());
    config.engine = engine::Kind::Interp;
  }
  if (lock_step != nullptr && config.processors != 1) return Error{"Engines are compared on one processor; use --cpus 1."};
  if (lock_step != nullptr) config.devices.rng = false;  // as with disks
  if (lock_step != nullptr && !disks_.empty()) return Error{"Engines are compared without disks, which write to memory by themselves."};
  if (lock_step != nullptr && config.devices.vsock) return Error{"Engines are compared without --vsock, which writes to memory by itself."};
  if (lock_step != nullptr && !shares_.empty()) return Error{"Engines are compared without --share, which writes to memory by itself."};
  if (lock_step != nullptr && !networks_.empty()) return Error{"Engines are compared without networks, which write to memory by themselves."};
  // A guest that is a hundred times slower than it thinks spends its life in timer interrupts.
  if (lock_step != nullptr) config.slower = kSlowerInLockStep;
  const bool at_console = console_ == "stdio";
  const bool serial_said = command_->count("--serial") != 0;
  if (at_console && serial_said && serial_ == "stdio") return Error{"Only one of --serial and --console can have stdio."};
  config.devices.console = !console_.empty();
  if (lock_step != nullptr && config.devices.console) return Error{"Engines are compared without --console, which writes to memory by itself."};
  config.devices.slots = slots_;
  std::unique_ptr<Control> control;
  if (!control_.empty()) control = TRY(Control::start(control_, slots_));
  auto vm = TRY(vm::Vm::create(config));
  if (!kernel.empty()) TRY(load(*vm, config, kernel));

  // Files that are written are emptied now, when nothing else can be refused. In the order of Vm's ports.
  auto place = TRY(place_of("--serial", at_console && !serial_said ? "none" : serial_));
  auto console_place = TRY(place_of("--console", console_.empty() ? "none" : console_));
  auto serial = TRY(Console::create(place.in, place.out));
  std::optional<ControlledPort> controlled;
  if (control != nullptr) controlled.emplace(*serial, control->line());
  std::vector<SerialClient*> clients = {serial.get()};
  if (controlled) clients.front() = &*controlled;
  auto console = TRY(Console::create(console_place.in, console_place.out));
  if (config.devices.console) {
    clients.push_back(console.get());
    const host::TerminalSize size = host::terminal_size(console_place.out);
    vm->resize_console(static_cast<u16>(size.columns), static_cast<u16>(size.rows));
  }
  std::vector<Place> debug_places;
  std::vector<std::unique_ptr<Console>> debug_consoles;
  for (const DebugPort& port : debug_ports) {
    debug_places.push_back(TRY(open_debug_port(port)));
    debug_consoles.push_back(TRY(Console::create(-1, debug_places.back().out)));
    clients.push_back(debug_consoles.back().get());
  }
  Session session(*vm, signals, clients, machine_.timeout);
  const auto outcome = TRY(session.run());
  serial->close();
  console->close();
  if (config.trace_topics != 0 && outcome.ending.kind != vm::Ending::Kind::PowerOff)
    vm->trace().dump(vm->state(0));
  if (config.post_port) complain(session.post_report().c_str());
  return status_of(outcome, at_console ? *console : *serial);
}

}  // namespace nacre::app
