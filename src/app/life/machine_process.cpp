#include "app/life/machine_process.hpp"

#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "app/guest_shares.hpp"
#include "app/kernel_file.hpp"
#include "app/life/disk_initrd.hpp"
#include "app/life/machine_line.hpp"
#include "app/output_stream.hpp"
#include "app/session.hpp"
#include "host/error.hpp"
#include "host/file_bytes.hpp"

namespace nacre::app {
namespace {

// COM1 at the supervisor's two sockets.
class SupervisedPort final : public SerialClient {
 public:
  SupervisedPort(int console, MachineLine& line) : console_(console), line_(line), out_(console) {}

  usize output(std::span<const u8> bytes) override {
    const usize written = out_.write_some(bytes);
    stalled_ = written < bytes.size();
    return written;
  }
  std::span<const u8> input() override { return pending_; }
  void input_taken(usize count) override {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<long>(count));
  }

  void wait_for(std::vector<pollfd>& entries) override {
    if (!told_) line_.say(line::kStarted);
    told_ = true;
    entries.push_back(line_.wait_entry());
    entries.push_back({pending_.size() < kMostPending ? console_ : -1, POLLIN, 0});
    if (stalled_) entries.push_back(out_.wait_entry());
  }
  void ready(std::span<const pollfd> entries) override {
    if (entries[0].revents != 0) line_.read();
    if (entries[1].fd >= 0 && entries[1].revents != 0) read_console();
  }
  void serve(vm::Vm& vm) override { line_.serve(vm); }
  bool take_quit() override { return std::exchange(quit_, false) || line_.is_over(); }
  bool take_power_button() override { return line_.take_power_button(); }

 private:
  static constexpr usize kMostPending = 4096;

  void read_console() {
    u8 bytes[1024];
    const ssize_t got = read(console_, bytes, sizeof bytes);
    if (got > 0) pending_.insert(pending_.end(), bytes, bytes + got);
    if (got == 0) quit_ = true;
  }

  int console_;
  MachineLine& line_;
  OutputStream out_;
  std::vector<u8> pending_;
  bool stalled_ = false, told_ = false, quit_ = false;
};

Status load(vm::Vm& vm, const vm::Config& config, const MachineJob& job) {
  const life::MachineConfig& wanted = job.config;
  host::FileBytes initrd;
  std::vector<std::byte> made;
  board::boot::Request request;
  if (!wanted.initrd.empty()) {
    initrd = TRY(host::FileBytes::read(job.folder.file(wanted.initrd).c_str(), "initial RAM disk",
                                       config.memory_bytes, "the guest's memory"));
    request.initrd = initrd.bytes();
  } else if (!wanted.modules.empty()) {
    const auto mounts = TRY(mount_units(config.devices.shares));
    made = TRY(disk_initrd(job.folder.file(wanted.modules), mounts));
    request.initrd = {reinterpret_cast<const u8*>(made.data()), made.size()};
  }
  request.command_line = wanted.append;
  return load_kernel(vm, job.folder.file(wanted.kernel), config.memory_bytes, request);
}

const char* reason(const Session::Outcome& outcome) {
  using Kind = vm::Ending::Kind;
  switch (outcome.ending.kind) {
    case Kind::PowerOff:
      return line::kPowerOff;
    case Kind::Reset:
      return line::kReset;
    case Kind::Panic:
      return line::kPanic;
    case Kind::TripleFault:
      return line::kTripleFault;
    case Kind::EngineFailure:
      return line::kFailed;
    case Kind::None:
    case Kind::Stopped:
    case Kind::DebugExit:
      break;
  }
  return line::kStopped;
}

Result<Session::Outcome> live(const MachineJob& job, SupervisedPort& port) {
  if (chdir(job.folder.path().c_str()) != 0)
    return host::errno_error("Cannot go to", job.folder.path().c_str());
  const auto signals = TRY(SignalEvents::create());
  const vm::Config config = TRY(machine_config(job.folder, job.config, job.early));
  auto vm = TRY(vm::Vm::create(config));
  TRY(load(*vm, config, job));
  Session session(*vm, signals, {&port}, 0);
  return session.run();
}

}  // namespace

Result<vm::Config> machine_config(const life::Folder& folder, const life::MachineConfig& wanted,
                                  const host::ClockPair& early) {
  MachineOptions options;
  options.memory = wanted.memory;
  options.engine = wanted.engine;
  options.cpu = wanted.cpu;
  options.processors = wanted.cpus;
  if (!wanted.direct.empty()) options.direct = wanted.direct;
  vm::Config config = TRY(options.config(early));
  config.devices.shares = TRY(parse_shares(wanted.shares));
  for (const std::string& network : wanted.networks) config.devices.networks.push_back(TRY(net::parse(network)));
  // From the folder, which is where the machine's process is: a path of any length has room there.
  config.devices.slots = wanted.slots;
  if (wanted.vsock) config.devices.vsock = vm::VsockConfig{life::Folder::kVsock};
  for (const life::DiskEntry& entry : wanted.disks) {
    vm::DiskConfig disk;
    disk.path = folder.file(entry.file);
    disk.read_only = entry.read_only;
    config.devices.disks.push_back(std::move(disk));
  }
  return config;
}

void run_machine(const MachineJob& job) {
  // Whom a terminal or the host's end would tell is the supervisor, who asks the guest first.
  setsid();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(signal, SIG_IGN);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  MachineLine line(job.line);
  SupervisedPort port(job.console, line);
  const auto outcome = live(job, port);
  std::string ended = line::kEnded;
  if (!outcome) {
    ended += std::string(line::kFailed) + " " + outcome.error().message();
  } else {
    ended += reason(outcome.value());
    if (outcome.value().ending.kind == vm::Ending::Kind::EngineFailure)
      ended += std::string(" ") + outcome.value().ending.error.message();
  }
  line.say(ended);
  _exit(0);
}

}  // namespace nacre::app
