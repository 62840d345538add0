#include "app/life/list.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <vector>

#include "host/error.hpp"
#include "life/config.hpp"
#include "life/json.hpp"
#include "life/record.hpp"

namespace nacre::app {
namespace {

struct Row {
  std::string name, state, cpus = "-", memory = "-", disk = "-", image, since = "-", note;
  i64 process = 0, boots = 0, seconds = 0;
};

// On the host, of the machine's own disks: what differs from the image.
std::string disk_size(const life::Folder& folder, const life::MachineConfig& config) {
  u64 bytes = 0;
  for (const life::DiskEntry& disk : config.disks) {
    struct stat status = {};
    if (stat(folder.file(disk.file).c_str(), &status) == 0) bytes += static_cast<u64>(status.st_blocks) * 512;
  }
  char text[32];
  if (bytes >= kGiB) {
    std::snprintf(text, sizeof text, "%.1fG", static_cast<double>(bytes) / static_cast<double>(kGiB));
  } else {
    std::snprintf(text, sizeof text, "%.1fM", static_cast<double>(bytes) / static_cast<double>(kMiB));
  }
  return config.disks.empty() ? "-" : text;
}

std::string span_of(i64 seconds) {
  if (seconds < 0) return "-";
  if (seconds < 120) return std::to_string(seconds) + " s";
  if (seconds < 120 * 60) return std::to_string(seconds / 60) + " min";
  if (seconds < 48 * 3600) return std::to_string(seconds / 3600) + " h";
  return std::to_string(seconds / 86400) + " d";
}

Row row_of(const life::Folder& folder) {
  Row row;
  row.name = folder.name();
  const bool locked = life::RunLock::is_held(folder);
  const life::Record record = life::load_record(folder);
  const life::State state = life::state_of(record, locked);
  row.state = life::describe(record, state);
  row.seconds = record.since;
  if (record.since != 0) row.since = span_of(::time(nullptr) - record.since);
  if (state == life::State::Running) {
    row.process = record.process;
    row.boots = record.boots;
    if (record.boots > 1) row.note = "rebooted " + std::to_string(record.boots - 1) + " times";
  }
  if (state == life::State::Off) row.note = record.message;
  if (state == life::State::Crashed)
    row.note = "nacre was killed, or the host went down; nacre start starts it again";
  const auto text = life::read_file(folder.config_file());
  const auto config = text ? life::parse_config(text.value(), folder.config_file())
                           : Result<life::MachineConfig>(text.error());
  if (!config) {
    row.note = config.error().message();
    return row;
  }
  row.cpus = std::to_string(config.value().cpus);
  row.memory = config.value().memory;
  row.image = config.value().image;
  row.disk = disk_size(folder, config.value());
  return row;
}

void print_json(const Row& row) {
  life::JsonObject object;
  object.set("name", row.name).set("state", row.state).set("image", row.image).set("note", row.note);
  object.set("cpus", row.cpus).set("memory", row.memory).set("since", row.seconds);
  if (row.process != 0) object.set("process", row.process).set("boots", row.boots);
  std::printf("%s\n", object.line().c_str());
}

void print_table(const std::vector<Row>& rows) {
  const auto cells = [](const Row& row) {
    return std::array<std::string, 7>{row.name,   row.state, row.since, row.cpus,
                                      row.memory, row.disk,  row.image};
  };
  Row head;
  head.name = "NAME", head.state = "STATE", head.since = "SINCE", head.cpus = "CPUS", head.memory = "MEMORY",
  head.disk = "DISK", head.image = "IMAGE";
  std::array<usize, 7> widths = {};
  const auto widen = [&](const Row& row) {
    const auto texts = cells(row);
    for (usize i = 0; i < texts.size(); ++i) widths[i] = std::max(widths[i], texts[i].size());
  };
  widen(head);
  for (const Row& row : rows) widen(row);
  const auto print = [&](const Row& row) {
    const auto texts = cells(row);
    std::string line;
    for (usize i = 0; i < texts.size(); ++i)
      line += texts[i] + std::string(widths[i] - texts[i].size() + 2, ' ');
    line += row.note;
    line.erase(line.find_last_not_of(' ') + 1);
    std::printf("%s\n", line.c_str());
  };
  print(head);
  for (const Row& row : rows) print(row);
}

}  // namespace

Status list_machines(bool json) {
  const auto folders = TRY(life::Folder::all());
  std::vector<Row> rows;
  for (const life::Folder& folder : folders) rows.push_back(row_of(folder));
  if (json) {
    for (const Row& row : rows) print_json(row);
  } else if (rows.empty()) {
    std::fprintf(stderr, "nacre: There are no machines yet; nacre create NAME makes one.\n");
  } else {
    print_table(rows);
  }
  if (std::fflush(stdout) != 0) return host::errno_error("Cannot write the list");
  return {};
}

Status show_log(const life::Folder& folder, bool follow) {
  const std::string path = folder.console_log();
  host::UniqueFd file;
  u8 bytes[16 * kKiB];
  for (;;) {
    if (!file) {
      if (access(path.c_str(), F_OK) == 0) {
        file = TRY(host::open_for_reading(path.c_str()));
      } else if (!follow) {
        return Error("The machine \"")
            .append(folder.name().c_str())
            .append("\" has never run: there is no log yet.");
      }
    }
    const ssize_t got = file ? read(file.number(), bytes, sizeof bytes) : 0;
    if (got < 0 && errno != EINTR) return host::errno_error("Cannot read", path.c_str());
    if (got > 0) {
      if (!host::write_all(STDOUT_FILENO, {bytes, static_cast<usize>(got)})) return {};
      continue;
    }
    if (!follow) return {};
    // A log that has grown too long has been put aside: what is under its name now is another file.
    struct stat here = {}, there = {};
    if (file && fstat(file.number(), &here) == 0 && stat(path.c_str(), &there) == 0 &&
        here.st_ino != there.st_ino)
      file = {};
    const timespec pause = {0, 100'000'000};
    nanosleep(&pause, nullptr);
  }
}

}  // namespace nacre::app
