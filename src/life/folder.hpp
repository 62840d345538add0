// Folder: where a named machine lives, and the one file lock that says whether it runs. docs/vm-life.md has
// the list of files. Any thread.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "base/types.hpp"
#include "host/fd.hpp"

namespace nacre::life {

// ${XDG_DATA_HOME:-~/.local/share}/nacre; an Error without a home.
Result<std::string> data_folder();

// Letters, digits, and inside also . _ - ; at most 63: a name is a folder's and a host's.
Status check_name(const std::string& name);

// Makes a folder and those above it.
Status make_folders(const std::string& path);
// Writes beside, syncs, renames: there is the old file or the new one.
Status replace_file(const std::string& path, const std::string& text);
Result<std::string> read_file(const std::string& path);

class Folder {
 public:
  // Of the machine `name`, whether it is there or not.
  static Result<Folder> of(const std::string& name);
  // Those there are, by name.
  static Result<std::vector<Folder>> all();

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] bool exists() const;
  // An Error that says how to make one, when there is none.
  [[nodiscard]] Status check_exists() const;
  // A path of the configuration: as it is, or from the folder on.
  [[nodiscard]] std::string file(const std::string& relative) const;

  [[nodiscard]] std::string config_file() const { return file("nacre.toml"); }
  [[nodiscard]] std::string record_file() const { return file("record.json"); }
  [[nodiscard]] std::string console_log() const { return file("console.log"); }
  // Of the sockets between guest and host (docs/virtio.md): under this name in the folder.
  static constexpr const char* kVsock = "vsock.sock";
  [[nodiscard]] std::string nacre_log() const { return file("nacre.log"); }

 private:
  Folder(std::string name, std::string path) : name_(std::move(name)), path_(std::move(path)) {}
  std::string name_, path_;
};

// Held for as long as the machine runs, by the processes that run it; free as soon as they are gone, however
// they went. An open-file-description lock: a child of fork(2) holds it too, and others can ask without
// taking it.
class RunLock {
 public:
  // Nothing: somebody has it.
  static Result<std::optional<RunLock>> try_take(const Folder& folder);
  static bool is_held(const Folder& folder);
  [[nodiscard]] int descriptor() const { return file_.number(); }

 private:
  explicit RunLock(host::UniqueFd file) : file_(std::move(file)) {}
  host::UniqueFd file_;
};

// A path by which a program with little room for one (a socket's address has 108 bytes) reaches `name` in the folder
// of a machine that runs. Good for as long as this process lives.
Result<std::string> short_path(const Folder& folder, const char* name);

// Sockets in the folder: "control.sock", "console.sock". A path of any length does.
Result<host::UniqueFd> listen_at(const Folder& folder, const char* name);
Result<host::UniqueFd> connect_to(const Folder& folder, const char* name);

}  // namespace nacre::life
