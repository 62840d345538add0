#include "app/exec_command.hpp"

#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "app/exec_session.hpp"
#include "app/exit_status.hpp"
#include "app/life/agent_of.hpp"
#include "app/machine_options.hpp"
#include "host/terminal.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter =
    R"(Without COMMAND: the user's login shell. The command has a terminal when standard input and output are one; else its
standard streams are yours, kept apart. On a terminal, Ctrl-A x leaves and hangs the command up. Without one, SIGINT
(Ctrl-C), SIGTERM, SIGHUP and SIGQUIT go to the command; a third one ends nacre.

Exit status: the command's; 128 + N when signal N killed it; and
  126  the command was found in the guest but cannot be run
  127  no such command in the guest
  255  the guest or its agent could not be reached, or broke off

Examples:
  nacre exec web                                      a shell in the machine "web"
  nacre exec web -- systemctl is-system-running
  tar c . | nacre exec web -- tar x -C /srv
  nacre exec --vsock vm.sock --user build --directory /src -- make
)";

}  // namespace

ExecCommand::ExecCommand(CLI::App& app)
    : command_(app.add_subcommand("exec", "Run a command in a guest that runs")) {
  command_->footer(kFooter);
  command_->add_option("NAME", name_, "Of the machine; not with --vsock")->type_name("");
  command_->add_option("COMMAND", words_, "The command and its arguments, after --")
      ->type_name("")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_option("--vsock", socket_, "The guest: the Unix socket that nacre boot --vsock has made, instead of a name")
      ->type_name("PATH");
  command_
      ->add_option("-u,--user", user_, "Run it as this user of the guest, a name or a number (default: root)")
      ->type_name("USER");
  command_
      ->add_option("-w,--directory", folder_,
                   "Run it in this directory of the guest (default: the user's home)")
      ->type_name("DIR");
  command_->add_option("-e,--env", environment_, "Set a variable, or pass yours on; may be given again")
      ->type_name("NAME[=VALUE]")
      ->expected(1)
      ->allow_extra_args(false)  // or the "--" that follows would count as its own end
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_flag("-n,--no-input", no_input_, "Give the command an empty standard input");
  command_->add_flag("-t,--tty", terminal_, "Give the command a terminal in any case");
  command_->add_flag("-T,--no-tty", no_terminal_, "Give the command no terminal");
  command_->add_option("--wait", wait_, "Wait so long for a guest that is still starting (a machine's name: until a minute after its start)")
      ->type_name("SECONDS");
}

int ExecCommand::run() {
  auto status = try_run();
  if (status) return status.value();
  complain(status.error());
  return ExecStatus::nacre_failed;
}

Result<int> ExecCommand::try_run() {
  if (socket_.empty()) {
    if (name_.empty()) return Error{"nacre exec wants a machine's name, as in nacre exec web -- uname -a."};
  } else if (!name_.empty()) {
    words_.insert(words_.begin(), name_);  // there is no name, and this is the first word
  }
  const auto signals = TRY(SignalEvents::create());
  const bool ours = isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0;
  agent::ExecOptions options;
  options.words = words_;
  options.user = user_;
  options.folder = folder_;
  options.terminal = !no_terminal_ && (terminal_ || (ours && !no_input_));
  if (options.terminal) {
    const host::TerminalSize size = host::terminal_size(STDIN_FILENO);
    options.size = {static_cast<u16>(size.rows), static_cast<u16>(size.columns)};
    if (const char* kind = getenv("TERM")) options.environment.push_back(std::string("TERM=") + kind);
  }
  for (const std::string& text : environment_) {
    const char* value = getenv(text.c_str());
    if (text.find('=') != std::string::npos) options.environment.insert(options.environment.begin(), text);
    if (text.find('=') == std::string::npos && value != nullptr)
      options.environment.push_back(text + "=" + value);
  }
  auto client = TRY(agent_of(name_, socket_, wait_));
  if (const auto started = client.exec(options); !started) {
    complain(started.error().error);
    return started.error().code;
  }
  std::optional<host::RawTerminal> raw;
  if (options.terminal && ours) raw.emplace(TRY(host::RawTerminal::enter(STDIN_FILENO)));
  ExecSession session(client, signals, no_input_ ? -1 : STDIN_FILENO, raw.has_value());
  const auto status = session.run();
  raw.reset();
  if (status) return *status;
  if (!session.left()) return Error{"The guest has ended, or its agent, before the command did."};
  return ExecStatus::nacre_failed;
}

}  // namespace nacre::app
