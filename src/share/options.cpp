#include "share/options.hpp"

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "host/error.hpp"
#include "virtio/fs/registers.hpp"

namespace nacre::share {
namespace {

Error wrong(std::string_view word, const char* wanted) {
  return Error("\"")
      .append(std::string(word).c_str())
      .append("\" is not what --share takes: ")
      .append(wanted);
}

bool number(std::string_view text, u32& value) {
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stop == text.data() + text.size() && value != ~u32{0};
}

// False: it is part of the path.
Result<bool> apply(std::string_view word, ShareConfig& config) {
  constexpr std::string_view kTag = "tag=", kAt = "at=", kUser = "user=", kGroup = "group=";
  if (word == "readonly") {
    config.read_only = true;
  } else if (word.starts_with(kTag)) {
    config.tag = word.substr(kTag.size());
    if (config.tag.empty() || config.tag.size() > virtio::fs::kTagBytes)
      return wrong(word, "a tag has 1 to 36 bytes.");
  } else if (word.starts_with(kAt)) {
    config.at = word.substr(kAt.size());
    if (!config.at.starts_with('/'))
      return wrong(word, "at wants an absolute path in the guest, as in at=/srv/src.");
  } else if (word.starts_with(kUser)) {
    if (!number(word.substr(kUser.size()), config.user))
      return wrong(word, "user wants a number of the guest's, as in user=1000.");
  } else if (word.starts_with(kGroup)) {
    if (!number(word.substr(kGroup.size()), config.group))
      return wrong(word, "group wants a number of the guest's, as in group=1000.");
  } else {
    return false;
  }
  return true;
}

Result<std::string> real_path(const std::string& path) {
  char* real = realpath(path.c_str(), nullptr);
  if (real == nullptr) return host::errno_error("Cannot share", path.c_str());
  std::string text = real;
  free(real);
  return text;
}

// What a guest needs to be itself: a folder may be mounted in some of these, but not over one.
bool is_systems_own(const std::string& path) {
  for (const char* own : {"/", "/bin", "/sbin", "/lib", "/lib64", "/usr", "/etc", "/var", "/run", "/tmp",
                          "/root", "/home", "/mnt"}) {
    if (path == own) return true;
  }
  for (const char* own : {"/dev", "/proc", "/sys", "/bin", "/sbin", "/lib", "/lib64", "/usr/bin", "/usr/sbin",
                          "/usr/lib", "/etc", "/run"}) {
    if (path == own || path.starts_with(std::string(own) + "/")) return true;
  }
  return false;
}

}  // namespace

Result<ShareConfig> parse(const std::string& text) {
  ShareConfig config;
  std::string_view rest = text;
  for (usize comma = rest.rfind(','); comma != rest.npos; comma = rest.rfind(',')) {
    if (!TRY(apply(rest.substr(comma + 1), config))) break;
    rest = rest.substr(0, comma);
  }
  config.path = rest;
  if (rest.empty()) return Error{"--share wants a folder, as in --share . or --share ~/src,readonly."};
  return config;
}

Result<std::string> tag_of(const ShareConfig& config) {
  if (!config.tag.empty()) return config.tag;
  std::string tag = std::filesystem::path(TRY(real_path(config.path))).filename();
  if (tag.empty()) tag = "root";
  return tag.substr(0, virtio::fs::kTagBytes);
}

Result<std::string> mount_point_of(const ShareConfig& config) {
  std::string path = config.at.empty() ? TRY(real_path(config.path))
                                       : std::filesystem::path(config.at).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (is_systems_own(path)) {
    return Error("A folder mounted at ")
        .append(path.c_str())
        .append(" would hide the guest's own files; say where it should be, as in ")
        .append(config.path.c_str())
        .append(",at=/srv/src.");
  }
  return path;
}

}  // namespace nacre::share
