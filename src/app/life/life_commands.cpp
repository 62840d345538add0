#include "app/life/life_commands.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cmath>
#include <csignal>
#include <filesystem>

#include "app/exit_status.hpp"
#include "app/life/console_client.hpp"
#include "app/life/control_client.hpp"
#include "app/life/list.hpp"
#include "app/life/supervisor.hpp"
#include "host/error.hpp"

namespace nacre::app {
namespace {

constexpr const char* kStartFooter =
    R"(The machine runs in the background until it is stopped or switches itself off; a reboot of the guest starts it again.

Exit status:
  0  it runs; with --foreground: it ran, and the guest switched itself off
  2  it does not; one sentence says why
  With --foreground, as nacre boot: 6 triple fault, 8 Nacre failed, 12 killed, 16 panic

Examples:
  nacre start web
  nacre start web --attach        and its console here; Ctrl-A d leaves it
)";
constexpr const char* kConsoleFooter =
    R"(Keys: Ctrl-A d  leave; the machine runs on     Ctrl-A p  press its power button
      Ctrl-A h  help                           Ctrl-A Ctrl-A  send Ctrl-A
Several consoles may be open at once; all show the same and all may type.
)";

// Everything of the caller's that a process in the background must not keep.
Status leave_terminal(const life::Folder& folder) {
  if (setsid() < 0) return host::errno_error("Cannot leave the terminal");
  const host::UniqueFd nothing(open("/dev/null", O_RDWR | O_CLOEXEC));
  const std::string log = folder.nacre_log();
  const host::UniqueFd out(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!nothing || !out) return host::errno_error("Cannot write", log.c_str());
  dup2(nothing.number(), STDIN_FILENO);
  dup2(out.number(), STDOUT_FILENO);
  dup2(out.number(), STDERR_FILENO);
  if (chdir("/") != 0) return host::errno_error("Cannot leave the folder");
  return {};
}

int foreground_status(life::Why why) {
  switch (why) {
    case life::Why::Panicked:
      return ExitStatus::panicked;
    case life::Why::Shutdown:
      return ExitStatus::triple_fault;
    case life::Why::Reset:
      return ExitStatus::reset;
    case life::Why::Failed:
      return ExitStatus::engine_failure;
    case life::Why::Killed:
      return ExitStatus::quit;
    case life::Why::None:
    case life::Why::PoweredOff:
    case life::Why::Stopped:
      break;
  }
  return ExitStatus::power_off;
}

Result<life::RunLock> take_lock(const life::Folder& folder, const char* advice) {
  auto lock = TRY(life::RunLock::try_take(folder));
  if (lock) return std::move(*lock);
  return Error("The machine \"").append(folder.name().c_str()).append("\" is running; ").append(advice);
}

}  // namespace

LifeCommands::LifeCommands(CLI::App& app) {
  const auto add = [&](const char* name, const char* what) {
    CLI::App* command = app.add_subcommand(name, what);
    command->add_option("NAME", name_, "Of the machine")->required()->type_name("");
    return command;
  };
  start_ = add("start", "Start a named machine, in the background");
  start_->footer(kStartFooter);
  start_->add_flag("-a,--attach", attach_, "Go to its console");
  start_->add_flag("--foreground", foreground_,
                   "Stay until it ends; for service managers. Its console is nacre console");
  stop_ = add("stop", "Press a machine's power button, and end it if that does not help");
  stop_
      ->add_option(
          "--timeout", timeout_,
          "Seconds to wait for the guest; 0 ends it at once. Unless told: stop-timeout of nacre.toml, 90")
      ->type_name("SECONDS");
  remove_ = add("rm", "Remove a machine with its disk");
  remove_->add_flag("-f,--force", force_, "End it first if it runs");
  list_ = app.add_subcommand("ls", "List the named machines and how they are");
  list_->add_flag("--json", json_, "For programs: one object a line");
  console_ = add("console", "Go to the serial console of a machine that runs");
  console_->footer(kConsoleFooter);
  logs_ = add("logs", "Show what a machine has written to its console");
  logs_->add_flag("-f,--follow", follow_, "And what it writes from now on");
}

bool LifeCommands::chosen() const {
  for (const CLI::App* command : {start_, stop_, remove_, list_, console_, logs_}) {
    if (command->parsed()) return true;
  }
  return false;
}

int LifeCommands::run(const host::ClockPair& early) {
  const auto status = dispatch(early);
  if (status) return status.value();
  complain(status.error());
  return ExitStatus::bad_input;
}

Result<int> LifeCommands::dispatch(const host::ClockPair& early) {
  if (start_->parsed()) return start(early);
  if (stop_->parsed()) return stop();
  if (remove_->parsed()) return remove();
  if (list_->parsed()) return list();
  if (console_->parsed()) return console();
  return logs();
}

Result<life::Folder> LifeCommands::folder() const {
  auto folder = TRY(life::Folder::of(name_));
  TRY(folder.check_exists());
  return folder;
}

Result<int> LifeCommands::start(const host::ClockPair& early) {
  const life::Folder machine = TRY(folder());
  auto lock = TRY(take_lock(machine, "nacre console reaches it, nacre stop stops it."));
  if (foreground_) return supervise(machine, std::move(lock), {}, early);

  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return host::errno_error("Cannot make a pipe");
  const host::UniqueFd reader(ends[0]);
  host::UniqueFd writer(ends[1]);
  const pid_t process = fork();
  if (process < 0) return host::errno_error("Cannot make a process");
  if (process == 0) {
    Status left = leave_terminal(machine);
    const auto status =
        left ? supervise(machine, std::move(lock), std::move(writer), early) : Result<int>(left.error());
    if (!status) complain(status.error());
    _exit(status ? 0 : ExitStatus::bad_input);
  }
  writer = host::UniqueFd();
  { const life::RunLock given_away = std::move(lock); }
  std::string text;
  char bytes[512];
  for (ssize_t got; (got = read(reader.number(), bytes, sizeof bytes)) > 0 || (got < 0 && errno == EINTR);)
    if (got > 0) text.append(bytes, static_cast<usize>(got));
  if (text != "ok")
    return Error(text.empty() ? "The machine's process died at once; nacre.log in its folder may say why."
                              : text.c_str());
  if (attach_) TRY(attach_console(machine));
  return 0;
}

// In the process that stays.
Result<int> LifeCommands::supervise(const life::Folder& machine, life::RunLock lock, host::UniqueFd ready,
                                    const host::ClockPair& early) {
  const auto prepared = [&]() -> Result<life::MachineConfig> {
    const std::string text = TRY(life::read_file(machine.config_file()));
    auto config = TRY(life::parse_config(text, machine.config_file()));
    TRY(machine_config(machine, config, early));
    return config;
  }();
  if (!prepared) {
    const std::string why = prepared.error().message();
    if (ready) host::write_all(ready.number(), {reinterpret_cast<const u8*>(why.data()), why.size()});
    return prepared.error();
  }
  Supervisor supervisor(machine, prepared.value(), std::move(lock), std::move(ready), early);
  TRY(supervisor.run());
  const life::Record& record = supervisor.record();
  if (!record.message.empty()) complain(record.message.c_str());
  return foreground_status(record.why);
}

Result<int> LifeCommands::stop() {
  const life::Folder machine = TRY(folder());
  life::JsonObject request;
  request.set("do", "stop");
  if (timeout_ >= 0) request.set("timeout", static_cast<i64>(std::ceil(std::min(timeout_, 86400.0))));
  const auto answer = TRY(ask(machine, request));
  const std::string why = answer.text("why");
  if (why == "killed")
    complain("The guest did not switch itself off in time; it was ended.");
  else if (why != "stopped")
    complain(("It ended by itself: " + why + ".").c_str());
  return 0;
}

Result<int> LifeCommands::remove() {
  const life::Folder machine = TRY(folder());
  if (force_ && life::RunLock::is_held(machine)) {
    const auto answer = ask(machine, life::JsonObject().set("do", "stop").set("timeout", i64{0}));
    if (!answer && life::RunLock::is_held(machine)) return answer.error();
  }
  const auto lock = TRY(take_lock(machine, "stop it first, or use nacre rm --force."));
  // Gone in one step; what is left of an interrupted removal has no name.
  const std::string away =
      std::filesystem::path(machine.path()).parent_path().string() + "/.removing-" + machine.name();
  std::error_code failed;
  std::filesystem::remove_all(away, failed);
  if (rename(machine.path().c_str(), away.c_str()) != 0)
    return host::errno_error("Cannot remove", machine.path().c_str());
  std::filesystem::remove_all(away, failed);
  if (failed)
    return Error("Cannot remove ")
        .append(away.c_str())
        .append(": ")
        .append(failed.message().c_str())
        .append(".");
  return 0;
}

Result<int> LifeCommands::list() {
  TRY(list_machines(json_));
  return 0;
}

Result<int> LifeCommands::console() {
  const life::Folder machine = TRY(folder());
  TRY(attach_console(machine));
  return 0;
}

Result<int> LifeCommands::logs() {
  const life::Folder machine = TRY(folder());
  TRY(show_log(machine, follow_));
  return 0;
}

}  // namespace nacre::app
