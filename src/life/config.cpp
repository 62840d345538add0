#include "life/config.hpp"

#include <initializer_list>

#define TOML_EXCEPTIONS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace nacre::life {
namespace {

// Reads one table, and knows which keys it has been asked for: what is left over is a mistake of the
// writer's.
class Table {
 public:
  Table(const toml::table* table, std::string where, const std::string& file)
      : table_(table), where_(std::move(where)), file_(file) {}

  template <typename T>
  Status take(const char* key, T& to, const char* wanted) {
    asked_.emplace_back(key);
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    if (node == nullptr) return {};
    const auto value = node->value_exact<T>();
    if (!value) return wrong(*node, key, wanted);
    to = *value;
    return {};
  }
  // A list of texts.
  Status take_list(const char* key, std::vector<std::string>& to, const char* wanted) {
    asked_.emplace_back(key);
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    if (node == nullptr) return {};
    if (node->as_array() == nullptr) return wrong(*node, key, wanted);
    to.clear();
    for (const toml::node& element : *node->as_array()) {
      const auto text = element.value_exact<std::string>();
      if (!text) return wrong(element, key, wanted);
      to.push_back(*text);
    }
    return {};
  }
  Status take_range(const char* key, i64& to, i64 least, i64 most) {
    const std::string wanted = "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
    i64 value = to;
    TRY(take(key, value, wanted.c_str()));
    if (value < least || value > most) return wrong(*table_->get(key), key, wanted.c_str());
    to = value;
    return {};
  }
  Status take_then(const char* key, Then& to) {
    constexpr const char* kWanted = "\"stop\" or \"restart\"";
    std::string text = to == Then::Stop ? "stop" : "restart";
    TRY(take(key, text, kWanted));
    if (text != "stop" && text != "restart") return wrong(*table_->get(key), key, kWanted);
    to = text == "stop" ? Then::Stop : Then::Restart;
    return {};
  }
  // A table of its own; one that is missing is as one that is empty.
  Result<Table> table(const char* key) {
    asked_.emplace_back(key);
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    if (node != nullptr && node->as_table() == nullptr) return wrong(*node, key, "a table").error();
    return Table(node == nullptr ? nullptr : node->as_table(), key, file_);
  }
  // [[key]], each given to `read`.
  template <typename Read>
  Status tables(const char* key, Read read) {
    asked_.emplace_back(key);
    const toml::node* node = table_ == nullptr ? nullptr : table_->get(key);
    if (node == nullptr) return {};
    const toml::array* list = node->as_array();
    if (list == nullptr) return wrong(*node, key, (std::string("written as [[") + key + "]]").c_str());
    for (const toml::node& element : *list) {
      if (element.as_table() == nullptr) return wrong(element, key, "a list of tables");
      Table table(element.as_table(), key, file_);
      TRY(read(table));
      TRY(table.finish());
    }
    return {};
  }

  Status finish() const {
    if (table_ == nullptr) return {};
    for (const auto& [key, node] : *table_) {
      bool known = false;
      for (const std::string& asked : asked_) known = known || key.str() == asked;
      if (known) continue;
      Error error = at(key.source());
      error.append("there is no \"").append(std::string(key.str()).c_str()).append("\" here; ");
      if (!where_.empty()) error.append("[").append(where_.c_str()).append("] ");
      error.append(where_.empty() ? "the file can have" : "has");
      for (usize i = 0; i < asked_.size(); ++i) error.append(i == 0 ? " " : ", ").append(asked_[i].c_str());
      return error.append(".");
    }
    return {};
  }

  Error at(const toml::source_region& region) const {
    return Error(file_.c_str()).append(":").append_number(region.begin.line).append(": ");
  }
  Status wrong(const toml::node& node, const char* key, const char* wanted) const {
    return at(node.source()).append("\"").append(key).append("\" should be ").append(wanted).append(".");
  }
  [[nodiscard]] const toml::table* raw() const { return table_; }

 private:
  const toml::table* table_;
  std::string where_;
  const std::string& file_;
  std::vector<std::string> asked_;
};

Result<toml::table> parse(std::string_view text, const std::string& name) {
  toml::parse_result result = toml::parse(text, name);
  if (result) return std::move(result).table();
  return Error(name.c_str())
      .append(":")
      .append_number(result.error().source().begin.line)
      .append(": ")
      .append(std::string(result.error().description()).c_str())
      .append(".");
}

constexpr const char* kText = "a text in quotes";

std::string quoted(const std::string& text) {
  std::string quoted = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') quoted += '\\';
    if (static_cast<u8>(c) < 0x20 || c == 0x7f) {
      constexpr const char* kHex = "0123456789abcdef";
      quoted += "\\u00";
      quoted += kHex[static_cast<u8>(c) >> 4];
      quoted += kHex[c & 15];
    } else {
      quoted += c;
    }
  }
  return quoted + '"';
}

const char* name_of(Then then) {
  return then == Then::Stop ? "\"stop\"" : "\"restart\"";
}

}  // namespace

Result<MachineConfig> parse_config(std::string_view text, const std::string& name) {
  const toml::table whole = TRY(parse(text, name));
  MachineConfig config;
  Table file(&whole, "", name);
  TRY(file.take("image", config.image, kText));

  Table machine = TRY(file.table("machine"));
  i64 cpus = config.cpus;
  TRY(machine.take_range("cpus", cpus, 1, 32));
  config.cpus = static_cast<unsigned>(cpus);
  TRY(machine.take("memory", config.memory, "a size, as \"1G\""));
  TRY(machine.take("engine", config.engine, kText));
  TRY(machine.take("cpu", config.cpu, kText));
  TRY(machine.take("direct", config.direct, kText));
  TRY(machine.take_list("networks", config.networks, "a list of texts, as [\"user\"]"));
  TRY(machine.take_list("shares", config.shares, "a list of texts, as [\"/home/me/src,readonly\"]"));
  TRY(machine.take("vsock", config.vsock, "true or false"));
  i64 slots = config.slots;
  TRY(machine.take_range("slots", slots, 0, 8));
  config.slots = static_cast<unsigned>(slots);
  TRY(machine.finish());

  Table boot = TRY(file.table("boot"));
  TRY(boot.take("kernel", config.kernel, kText));
  TRY(boot.take("initrd", config.initrd, kText));
  TRY(boot.take("modules", config.modules, kText));
  TRY(boot.take("append", config.append, kText));
  TRY(boot.finish());
  if (config.kernel.empty())
    return Error(name.c_str()).append(": [boot] needs a kernel, as in kernel = \"vmlinuz\".");
  if (!config.initrd.empty() && !config.modules.empty())
    return Error(name.c_str()).append(": [boot] has an initrd or modules, not both.");

  const auto read_disk = [&config](Table& table) -> Status {
    DiskEntry disk;
    TRY(table.take("file", disk.file, kText));
    TRY(table.take("read-only", disk.read_only, "true or false"));
    if (disk.file.empty()) return table.at(table.raw()->source()).append("a [[disk]] needs a file.");
    config.disks.push_back(std::move(disk));
    return {};
  };
  TRY(file.tables("disk", read_disk));

  Table life = TRY(file.table("life"));
  TRY(life.take_then("on-reboot", config.on_reboot));
  TRY(life.take_then("on-panic", config.on_panic));
  TRY(life.take_range("stop-timeout", config.stop_timeout, 0, 86400));
  TRY(life.finish());
  TRY(file.finish());
  return config;
}

std::string write_config(const MachineConfig& config) {
  std::string text =
      "# A virtual machine of Nacre's; docs/vm-life.md says what can stand here. Read when the machine "
      "starts.\n"
      "# Paths are relative to this folder.\n";
  text += "image = " + quoted(config.image) + "\n\n[machine]\n";
  text += "cpus = " + std::to_string(config.cpus) + "\n";
  text += "memory = " + quoted(config.memory) + "\n";
  if (config.engine != "auto") text += "engine = " + quoted(config.engine) + "\n";
  if (config.cpu != "host") text += "cpu = " + quoted(config.cpu) + "\n";
  if (!config.direct.empty()) text += "direct = " + quoted(config.direct) + "\n";
  text += "networks = [";
  for (usize i = 0; i < config.networks.size(); ++i) text += (i == 0 ? "" : ", ") + quoted(config.networks[i]);
  text += "]\n";
  if (!config.shares.empty()) {
    text += "shares = [";
    for (usize i = 0; i < config.shares.size(); ++i) text += (i == 0 ? "" : ", ") + quoted(config.shares[i]);
    text += "]\n";
  }
  if (!config.vsock) text += "vsock = false\n";
  if (config.slots != 0) text += "slots = " + std::to_string(config.slots) + "\n";
  text += "\n[boot]\nkernel = " + quoted(config.kernel) + "\n";
  if (!config.initrd.empty()) text += "initrd = " + quoted(config.initrd) + "\n";
  if (!config.modules.empty()) text += "modules = " + quoted(config.modules) + "\n";
  text += "append = " + quoted(config.append) + "\n";
  for (const DiskEntry& disk : config.disks) {
    text += "\n[[disk]]\nfile = " + quoted(disk.file) + "\n";
    if (disk.read_only) text += "read-only = true\n";
  }
  text += "\n[life]\non-reboot = " + std::string(name_of(config.on_reboot)) + "\n";
  text += "on-panic = " + std::string(name_of(config.on_panic)) + "\n";
  text += "stop-timeout = " + std::to_string(config.stop_timeout) + "\n";
  return text;
}

Result<ImageManifest> parse_manifest(std::string_view text, const std::string& name) {
  const toml::table whole = TRY(parse(text, name));
  ImageManifest manifest;
  Table file(&whole, "", name);
  std::string made;
  TRY(file.take("name", manifest.name, kText));
  TRY(file.take("release", manifest.release, kText));
  TRY(file.take("made", made, kText));
  TRY(file.take("append", manifest.append, kText));
  TRY(file.finish());
  return manifest;
}

}  // namespace nacre::life
