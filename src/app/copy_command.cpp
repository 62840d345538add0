#include "app/copy_command.hpp"

#include "app/exit_status.hpp"
#include "app/life/agent_of.hpp"
#include "app/machine_options.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter =
    R"(A path of the guest is NAME:PATH with a machine's name, or :PATH with --vsock; it is relative to the user's home. Directories are copied with all in them.
TARGET is a directory into which the sources go, or the name that the only source gets. Permissions, times and
symbolic links are kept; owners, hard links and special files are not: what is made belongs to the user of the
guest, or to you. An older file in the way is replaced.

Exit status:
  0    all was copied
  1    some files were not; a line says how many and why the first was not
  255  the guest or its agent could not be reached, or nothing was copied

Examples:
  nacre cp program web:/usr/local/bin/
  nacre cp web:/var/log/syslog web:/etc/hosts .
  nacre cp --vsock vm.sock program :/usr/local/bin/
)";

bool is_guests(const std::string& path) {
  return path.starts_with(':');
}

}  // namespace

CopyCommand::CopyCommand(CLI::App& app)
    : command_(app.add_subcommand("cp", "Copy files into or out of a guest that runs")) {
  command_->footer(kFooter);
  command_->add_option("PATHS", paths_, "The sources, and last the target")
      ->type_name("SOURCE... TARGET")
      ->required()
      ->expected(2, 1 << 20)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_option("--vsock", socket_, "The guest: the Unix socket that nacre boot --vsock has made, instead of a name")
      ->type_name("PATH");
  command_->add_option("-u,--user", user_, "Read and write as this user of the guest (default: root)")
      ->type_name("USER");
  command_->add_option("--wait", wait_, "Wait so long for a guest that is still starting (a machine's name: until a minute after its start)")
      ->type_name("SECONDS");
}

int CopyCommand::run() {
  auto status = try_run();
  if (status) return status.value();
  complain(status.error());
  return ExecStatus::nacre_failed;
}

Status CopyCommand::take_name() {
  std::string name;
  for (std::string& path : paths_) {
    const usize colon = path.find(':');
    const std::string part = path.substr(0, colon);
    // As for scp: a name has no slash, so a file "a:b" is said as ./a:b.
    if (colon == std::string::npos || part.empty() || part.find('/') != std::string::npos) continue;
    if (!name.empty() && name != part) return Error{"One copy is into or out of one machine."};
    name = part;
    path.erase(0, colon);
  }
  if (name.empty()) return Error{"Which machine? Its paths are NAME:PATH, as in nacre cp file web:/tmp/."};
  name_ = name;
  return {};
}

Result<int> CopyCommand::try_run() {
  if (socket_.empty()) TRY(take_name());
  const std::string target = paths_.back();
  const std::vector<std::string> sources(paths_.begin(), paths_.end() - 1);
  const bool into = is_guests(target);
  u32 problems = 0;
  std::string first;
  for (const std::string& source : sources) {
    if (is_guests(source) == into)
      return Error{
          "One side must be the guest's: its paths are NAME:PATH, as in nacre cp file web:/tmp/, or begin with "
          "a colon with --vsock."};
  }
  for (const std::string& source : sources) {
    auto client = TRY(agent_of(name_, socket_, wait_));
    const bool several = sources.size() > 1;
    const auto report = into ? TRY(client.put(source, target.substr(1), several, user_))
                             : TRY(client.get(source.substr(1), target, several, user_));
    if (problems == 0) first = report.first;
    problems += report.problems;
  }
  if (problems == 0) return 0;
  complain((std::to_string(problems) + " of the files could not be copied as they are; the first is " +
            first + ".")
               .c_str());
  return ExecStatus::some_failed;
}

}  // namespace nacre::app
