// The `nacre` command.
#include <unistd.h>

#include <CLI/CLI.hpp>

#include "app/boot_command.hpp"
#include "app/copy_command.hpp"
#include "app/disk_command.hpp"
#include "app/exec_command.hpp"
#include "app/exit_status.hpp"
#include "app/info_command.hpp"
#include "app/life/attach_command.hpp"
#include "app/life/stat_command.hpp"
#include "app/life/create_command.hpp"
#include "app/life/life_commands.hpp"
#include "app/run_command.hpp"
#include "app/verify_command.hpp"
#include "app/version.hpp"
#include "host/check_report.hpp"
#include "host/signals.hpp"

namespace {

constexpr const char* kFooter = R"(Start here:
  nacre run                    a shell in a small Linux guest
  nacre run -- uname -a        a command in it; its output and status are yours
  nacre create NAME            a Debian system of your own; nacre start NAME --attach
  nacre boot --kernel vmlinuz  a kernel of your own, on the serial line
  nacre COMMAND --help         all about one command
)";

}  // namespace

int main(int argc, char** argv) {
  const auto early = nacre::host::ClockPair::read();
  nacre::host::report_failed_checks();

  CLI::App app("Nacre runs virtual machines everywhere: with hardware virtualization or without.", "nacre");
  app.footer(kFooter);
  app.set_version_flag("--version", nacre::app::kVersion);
  app.require_subcommand(1);
  // An option given again counts anew, so that a script's default can be followed by the user's wish.
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.get_formatter()->column_width(26);
  app.failure_message([](const CLI::App* parsed, const CLI::Error& error) {
    const std::string command =
        parsed->get_subcommands().empty() ? "" : " " + parsed->get_subcommands().front()->get_name();
    return std::string("nacre: ") + error.what() + "; see nacre" + command + " --help.\n";
  });
  nacre::app::RunCommand run(app);
  nacre::app::BootCommand boot(app);
  nacre::app::ExecCommand exec(app);
  nacre::app::CopyCommand copy(app);
  nacre::app::DiskCommand disk(app);
  nacre::app::CreateCommand create(app);
  nacre::app::LifeCommands life(app);
  nacre::app::AttachCommand attach(app);
  nacre::app::StatCommand stat(app);
  nacre::app::VerifyCommand verify(app);
  nacre::app::InfoCommand info(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int status = app.exit(error);
    return status == 0 ? 0 : nacre::app::ExitStatus::bad_input;
  }
  if (run.chosen()) return run.run(early);
  if (boot.chosen()) return boot.run(early);
  if (exec.chosen()) return exec.run();
  if (copy.chosen()) return copy.run();
  if (disk.chosen()) return disk.run();
  if (create.chosen()) return create.run();
  if (attach.chosen()) return attach.run();
  if (stat.chosen()) return stat.run();
  if (life.chosen()) return life.run(early);
  if (verify.chosen()) return verify.run(early);
  return info.run(early);
}
