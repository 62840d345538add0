#include "app/run_command.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "app/console.hpp"
#include "app/exit_status.hpp"
#include "app/kernel_file.hpp"
#include "app/run_channel.hpp"
#include "app/session.hpp"
#include "host/file_bytes.hpp"
#include "host/terminal.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter =
    R"(Without COMMAND: a shell in the guest, on your terminal; leave it with "exit" or Ctrl-A x. The guest is
made anew each time and forgotten when it ends.

With COMMAND: it runs in the guest with your standard input, output and error kept apart, and its exit
status is yours; 128 + N when signal N killed it. SIGINT (Ctrl-C), SIGTERM, SIGHUP and SIGQUIT go to the
command; a third one ends the machine.

Exit status of nacre itself:
  124  ended by --timeout
  125  the guest could not be started, or died before the command ended
  126  the command was found in the guest but cannot be run
  127  no such command in the guest
  12   ended by Ctrl-A x (shell)

Examples:
  nacre run
  nacre run -- sh -c 'dmesg | head'
  sort < words | nacre run -- uniq -c > counts
  nacre run --share . -- sh -c 'grep -rl TODO . | wc -l'
  nacre run --net user -- wget -q -O - http://deb.debian.org
  nacre run --add ./program:/bin/program --memory 2G -- program --option
)";

// The kernel's own console while a command runs: kept, and shown only when the machine dies on it.
class HiddenConsole final : public SerialClient {
 public:
  explicit HiddenConsole(bool shown) : shown_(shown) {}
  usize output(std::span<const u8> bytes) override {
    if (shown_) host::write_all(STDERR_FILENO, bytes);
    tail_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (tail_.size() > 2 * kTail) tail_.erase(0, tail_.size() - kTail);
    return bytes.size();
  }
  std::span<const u8> input() override { return {}; }
  void input_taken(usize) override {}
  void wait_for(std::vector<pollfd>&) override {}
  void ready(std::span<const pollfd>) override {}

  void show() const {
    if (!shown_) host::write_all(STDERR_FILENO, {reinterpret_cast<const u8*>(tail_.data()), tail_.size()});
  }

 private:
  static constexpr usize kTail = 8192;
  bool shown_;
  std::string tail_;
};

// Why there is no status of a command to give.
int report(const Session::Outcome& outcome, const HiddenConsole* console) {
  using Cause = Session::Cause;
  using Kind = vm::Ending::Kind;
  if (outcome.cause == Cause::TimeLimit) {
    complain("The time limit is over; the guest was stopped.");
    return ExitStatus::time_limit;
  }
  if (outcome.cause == Cause::Signal) die_by(outcome.signal);
  if (console != nullptr) console->show();
  switch (outcome.ending.kind) {
    case Kind::TripleFault:
      complain("The guest's processor has shut down (triple fault).");
      break;
    case Kind::EngineFailure:
      complain(outcome.ending.error);
      break;
    case Kind::Panic:
      complain("The guest's kernel has panicked.");
      break;
    case Kind::Reset:
      complain("The guest has reset itself.");
      break;
    default:
      complain("The guest ended before the command did.");
      break;
  }
  return RunStatus::nacre_failed;
}

}  // namespace

RunCommand::RunCommand(CLI::App& app)
    : command_(app.add_subcommand("run", "Run a command, or a shell, in a small Linux guest")) {
  command_->footer(kFooter);
  command_->add_option("COMMAND", words_, "The command and its arguments, after --")
      ->type_name("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_option("--kernel", kernel_, "Linux kernel to use instead of the cached Debian one")
      ->type_name("FILE");
  command_->add_option("--append", append_, "More for the kernel's command line")->type_name("TEXT");
  command_->add_option("--add", added_, "Put a file of the host into the guest; may be given again")
      ->type_name("HOST:GUEST")
      ->expected(1)
      ->allow_extra_args(false)  // or the "--" that follows would count as its own end
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--share", shares_,
                   "Share this folder with the guest, where it is at the same place, unless at= says another; may be given again. "
                   "The command starts where you are, if that is shared")
      ->type_name("FOLDER[,readonly][,at=/PLACE]")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--net", networks_,
                   "Give the guest a network, set up before the command runs: user, with its options "
                   "(publish=[ADDRESS:]HOST:GUEST[/udp], host=no, capture=FILE …); without it there is none")
      ->type_name("user[,OPTION...]")
      ->expected(1)
      ->allow_extra_args(false);
  command_->add_flag("-n,--no-input", no_input_, "Give the command an empty standard input");
  machine_.add_to(*command_);
}

int RunCommand::run(const host::ClockPair& early) {
  auto status = try_run(early);
  if (status) return status.value();
  complain(status.error());
  return RunStatus::nacre_failed;
}

Result<GuestContent> RunCommand::content() const {
  GuestContent content;
  content.command = words_;
  content.environment = {"HOME=/root", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                         "USER=root", "LOGNAME=root"};
  for (const char* name : {"TERM", "LANG", "TZ"}) {
    if (const char* value = getenv(name)) content.environment.push_back(std::string(name) + "=" + value);
  }
  const auto shares = TRY(parse_shares(shares_));
  if (!shares.empty()) content.shares = TRY(guest_shares(shares, !kernel_.empty()));
  if (!networks_.empty()) content.network = TRY(guest_network(net::UserNetwork::plan(), !kernel_.empty()));
  for (const std::string& text : added_) content.files.push_back(TRY(parse_added_file(text)));
  return content;
}

std::string RunCommand::command_line() const {
  std::string text = "console=ttyS0 quiet";
  if (words_.empty()) {
    const host::TerminalSize size = host::terminal_size(STDOUT_FILENO);
    if (size.rows != 0)
      text += " nacre.size=" + std::to_string(size.rows) + "x" + std::to_string(size.columns);
    const char* kind = getenv("TERM");
    if (kind != nullptr && std::string_view(kind).find_first_of(" \"") == std::string_view::npos)
      text += std::string(" nacre.term=") + kind;
  } else {
    text += std::string(" panic=-1 rdinit=") + channel::kAgentPath;
  }
  return append_.empty() ? text : text + " " + append_;
}

Result<std::string> RunCommand::kernel_path() const {
  if (!kernel_.empty()) return kernel_;
  auto path = TRY(cached_file("vmlinuz-cloud"));
  if (access(path.c_str(), R_OK) == 0) return path;
  return Error("There is no guest kernel at ")
      .append(path.c_str())
      .append(" yet: run scripts/fetch-guest of the Nacre source, or give one with --kernel.");
}

// The kernel's and the file system's bytes live only as long as this takes.
Status RunCommand::load(vm::Vm& vm, const vm::Config& config) {
  const auto path = TRY(kernel_path());
  const auto guest = TRY(content());
  const auto initramfs = TRY(build_initramfs(guest));
  const std::string text = command_line();
  board::boot::Request request;
  request.command_line = text;
  request.initrd = {reinterpret_cast<const u8*>(initramfs.data()), initramfs.size()};
  return load_kernel(vm, path, config.memory_bytes, request);
}

Result<int> RunCommand::try_run(const host::ClockPair& early) {
  const auto signals = TRY(SignalEvents::create());
  vm::Config config = TRY(machine_.config(early));
  config.devices.shares = TRY(parse_shares(shares_));
  for (const std::string& text : networks_) {
    config.devices.networks.push_back(TRY(net::parse(text)));
    if (config.devices.networks.size() > 1 || config.devices.networks[0].kind != net::NetConfig::Kind::User)
      return Error{"nacre run takes one --net, of the kind user, which it can set up in the guest; nacre boot takes all kinds."};
  }
  config.serial_ports = words_.empty() ? 1 : 2;
  auto vm = TRY(vm::Vm::create(config));
  if (auto status = load(*vm, config); !status) return status.error();
  return words_.empty() ? run_shell(*vm, signals) : run_words(*vm, signals);
}

Result<int> RunCommand::run_shell(vm::Vm& vm, const SignalEvents& signals) {
  auto console = TRY(Console::create(STDIN_FILENO, STDOUT_FILENO));
  Session session(vm, signals, {console.get()}, machine_.timeout);
  const auto outcome = TRY(session.run());
  console->close();
  if (outcome.cause == Session::Cause::User) return ExitStatus::quit;
  if (outcome.cause == Session::Cause::Output) return ExitStatus::output_failed;
  if (outcome.cause == Session::Cause::Guest && outcome.ending.kind == vm::Ending::Kind::PowerOff)
    return ExitStatus::power_off;
  return report(outcome, nullptr);
}

Result<int> RunCommand::run_words(vm::Vm& vm, const SignalEvents& signals) {
  HiddenConsole console(machine_.verbose);
  RunChannel channel(no_input_ ? -1 : STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO);
  Session session(vm, signals, {&console, &channel}, machine_.timeout);
  const auto outcome = TRY(session.run());
  if (channel.finished()) return channel.status();
  return report(outcome, &console);
}

}  // namespace nacre::app
