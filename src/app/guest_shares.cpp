#include "app/guest_shares.hpp"

#include <unistd.h>

#include <cstdio>
#include <filesystem>

#include "app/guest_assets.hpp"

namespace nacre::app {
namespace {

// In the order in which they need each other.
constexpr const char* kModuleNames[] = {"virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "fuse", "virtiofs"};

std::string quoted(const std::string& text) {
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// Where `path` of this machine is in a guest that has `folder` at `place`; empty: nowhere.
std::string place_of(const std::string& path, const std::string& folder, const std::string& place) {
  if (path == folder) return place;
  const std::string inside = folder == "/" ? folder : folder + "/";
  return path.starts_with(inside) ? place + "/" + path.substr(inside.size()) : std::string();
}

// systemd.unit(5), "string escaping for inclusion in unit names".
std::string unit_name(const std::string& path) {
  std::string name;
  for (usize i = 1; i < path.size(); ++i) {
    const char c = path[i];
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_' || (c == '.' && i != 1);
    char hexadecimal[8];
    std::snprintf(hexadecimal, sizeof hexadecimal, "\\x%02x", static_cast<u8>(c));
    name += c == '/' ? std::string("-") : plain ? std::string(1, c) : std::string(hexadecimal);
  }
  return name + ".mount";
}

std::string unit_value(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '%' ? std::string("%%") : std::string(1, c);
  return result;
}

// Lines end there, in scripts and units.
Status check_text(const std::string& text) {
  if (text.find('\n') == text.npos) return {};
  return Error{"A shared folder, its tag and its place in the guest have no line feeds in their names; say another with tag= and at=."};
}

}  // namespace

Result<std::vector<share::ShareConfig>> parse_shares(const std::vector<std::string>& texts) {
  std::vector<share::ShareConfig> shares;
  for (const std::string& text : texts) {
    shares.push_back(TRY(share::parse(text)));
    share::ShareConfig& last = shares.back();
    last.tag = TRY(share::tag_of(last));
    for (usize i = 0; i + 1 < shares.size(); ++i) {
      if (shares[i].tag == last.tag)
        return Error("Two shared folders are called ").append(last.tag.c_str()).append("; give one another name, as in ").append(text.c_str()).append(",tag=other.");
    }
  }
  return shares;
}

Result<GuestShares> guest_shares(const std::vector<share::ShareConfig>& shares, bool own_kernel) {
  GuestShares result;
  result.set_up = "set -e\n";
  for (const char* name : kModuleNames) {
    if (own_kernel) break;
    const std::string file = std::string(name) + ".ko";
    auto path = TRY(cached_file(("modules-cloud/" + file).c_str()));
    if (access(path.c_str(), R_OK) != 0) {
      return Error("A shared folder needs the driver ")
          .append(path.c_str())
          .append(" for the guest's kernel, which is not there: run scripts/fetch-guest of the Nacre source.");
    }
    result.modules.push_back(std::move(path));
    result.set_up += "[ -d /sys/module/" + std::string(name) + " ] || insmod " + GuestShares::kModules + file + "\n";
  }
  std::error_code ignored;
  const std::string here = std::filesystem::current_path(ignored).string();
  for (const share::ShareConfig& share : shares) {
    const std::string place = TRY(share::mount_point_of(share));
    TRY(check_text(place + share.tag));
    result.set_up += "mkdir -p " + quoted(place) + "\nmount -t virtiofs " + (share.read_only ? "-o ro " : "") + quoted(share.tag) + " " + quoted(place) + "\n";
    const std::string folder = std::filesystem::canonical(share.path, ignored).string();
    if (result.directory.empty()) result.directory = place_of(here, folder, place);
  }
  return result;
}

Result<std::vector<MountUnit>> mount_units(const std::vector<share::ShareConfig>& shares) {
  std::vector<MountUnit> units;
  for (const share::ShareConfig& share : shares) {
    const std::string place = TRY(share::mount_point_of(share));
    TRY(check_text(place + share.tag));
    MountUnit unit = {unit_name(place), "[Unit]\nDescription=Folder of the host\nDocumentation=man:nacre(1)\n\n[Mount]\nType=virtiofs\n"};
    unit.text += "What=" + unit_value(share.tag) + "\nWhere=" + unit_value(place) + "\n";
    if (share.read_only) unit.text += "Options=ro\n";
    units.push_back(std::move(unit));
  }
  return units;
}

}  // namespace nacre::app
