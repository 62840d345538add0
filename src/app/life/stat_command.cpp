#include "app/life/stat_command.hpp"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "app/exit_status.hpp"
#include "app/life/control_client.hpp"
#include "app/machine_options.hpp"

namespace nacre::app {
namespace {

constexpr const char* kFooter =
    R"(Since the guest started; what nothing has counted is left out. Of every engine: accesses to ports, devices' memory, doorbells
and the board's MSRs that came to Nacre, interrupts that it delivered, kicks, and how often a processor slept. kvm: exits,
and exits by reason. soft: blocks translated, and what translated code needed help for; "fill" is a TLB miss.

Examples:
  nacre stat web
  nacre stat web --json
  nacre stat --control vm.sock      a machine of nacre boot --control vm.sock
)";
constexpr i64 kMostProcessors = 256;  // whatever the answer says

using Row = std::pair<std::string, std::vector<std::string>>;

std::vector<std::pair<std::string, std::string>> lines_of(const std::string& counts) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (usize at = 0; at < counts.size();) {
    const usize end = std::min(counts.find('\n', at), counts.size());
    const std::string line = counts.substr(at, end - at);
    if (const usize tab = line.find('\t'); tab != std::string::npos)
      lines.emplace_back(line.substr(0, tab), line.substr(tab + 1));
    at = end + 1;
  }
  return lines;
}

}  // namespace

std::string table_of(const std::vector<std::string>& counts) {
  std::vector<Row> rows;
  for (usize column = 0; column < counts.size(); ++column) {
    for (const auto& line : lines_of(counts[column])) {
      auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& one) { return one.first == line.first; });
      if (row == rows.end()) row = rows.insert(rows.end(), {line.first, std::vector<std::string>(counts.size(), "0")});
      row->second[column] = line.second;
    }
  }
  std::erase_if(rows, [](const Row& row) {
    return std::all_of(row.second.begin(), row.second.end(), [](const std::string& value) { return value == "0"; });
  });
  std::string text;
  char piece[64];
  for (const Row& row : rows) {
    std::snprintf(piece, sizeof piece, "%-18.30s", row.first.c_str());
    text += piece;
    for (const std::string& value : row.second) {
      std::snprintf(piece, sizeof piece, " %14.30s", value.c_str());
      text += piece;
    }
    text += "\n";
  }
  return text;
}

StatCommand::StatCommand(CLI::App& app) : stat_(app.add_subcommand("stat", "Show what the processors of a machine that runs have counted")) {
  stat_->footer(kFooter);
  stat_->add_option("NAME", name_, "Of the machine; not with --control")->type_name("");
  stat_->add_option("--control", socket_, "The machine: the socket that nacre boot --control has made, instead of a name")
      ->type_name("PATH");
  stat_->add_flag("--json", json_, "For programs: one object a line, one for each processor");
}

int StatCommand::run() {
  const Status status = show();
  if (status) return 0;
  complain(status.error());
  return ExitStatus::bad_input;
}

Result<life::JsonObject> StatCommand::ask_for(i64 processor) const {
  life::JsonObject request;
  request.set("do", "stat").set("processor", processor);
  if (!socket_.empty()) {
    if (!name_.empty()) return Error{"A machine has a name or a --control socket; give one of them."};
    return ask(socket_, request);
  }
  if (name_.empty())
    return Error{"Which machine? Give its name, or the socket of nacre boot --control, as in --control vm.sock."};
  auto folder = TRY(life::Folder::of(name_));
  TRY(folder.check_exists());
  return ask(folder, request);
}

Status StatCommand::show() const {
  std::vector<std::string> counts;
  std::string engine;
  for (i64 i = 0, processors = 1; i < processors; ++i) {
    const auto answer = TRY(ask_for(i));
    if (answer.number("processors") == 0) return Error{"The machine has ended meanwhile."};
    processors = std::min(answer.number("processors"), kMostProcessors);
    engine = answer.text("engine");
    counts.push_back(answer.text("counts"));
    if (!json_) continue;
    life::JsonObject line;
    line.set("processor", i).set("engine", engine);
    for (auto [name, value] : lines_of(counts.back())) {
      std::replace(name.begin(), name.end(), ' ', '-');
      line.set(name, static_cast<i64>(std::strtoll(value.c_str(), nullptr, 10)));
    }
    std::printf("%s\n", line.line().c_str());
  }
  if (json_) return {};
  std::printf("engine             %14s\n", engine.c_str());
  if (counts.size() > 1) {
    std::printf("processor         ");
    for (usize i = 0; i < counts.size(); ++i) std::printf(" %14zu", i);
    std::printf("\n");
  }
  std::printf("%s", table_of(counts).c_str());
  return {};
}

}  // namespace nacre::app
