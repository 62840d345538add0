#include "unpack/kernel_cache.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <vector>

#include "host/fd.hpp"
#include "unpack/decompress.hpp"

namespace nacre::unpack {
namespace {

namespace fs = std::filesystem;
using board::boot::Bytes;

constexpr const char* kPrefix = "vmlinux-";
constexpr usize kEntriesKept = 4;
// An entry ends with this, so that a file of another version of Nacre, or of something else, is not taken.
constexpr char kSeal[16] = "nacre vmlinux 1";

// Empty when the file has no lasting identity (a pipe).
std::string entry_name(const char* path) {
  struct stat s = {};
  if (stat(path, &s) != 0 || !S_ISREG(s.st_mode)) return "";
  char name[160];
  std::snprintf(name, sizeof name, "%s%llx-%llx-%llx-%llx.%lx-%llx.%lx", kPrefix,
                static_cast<unsigned long long>(s.st_dev), static_cast<unsigned long long>(s.st_ino),
                static_cast<unsigned long long>(s.st_size), static_cast<unsigned long long>(s.st_mtim.tv_sec),
                static_cast<unsigned long>(s.st_mtim.tv_nsec),
                static_cast<unsigned long long>(s.st_ctim.tv_sec),
                static_cast<unsigned long>(s.st_ctim.tv_nsec));
  return name;
}

UnpackedKernel read_entry(const std::string& file, u64 bytes) {
  const host::UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat s = {};
  if (!fd || fstat(fd.number(), &s) != 0 || static_cast<u64>(s.st_size) != bytes + sizeof kSeal ||
      s.st_uid != geteuid()) {
    return {};
  }
  auto mapping = host::Mapping::shared_file(fd.number(), bytes + sizeof kSeal, PROT_READ);
  if (!mapping || !std::equal(kSeal, kSeal + sizeof kSeal, mapping->data() + bytes)) return {};
  return {mapping.take(), bytes};
}

// All of it or nothing; a full disk is no reason to stop.
void write_entry(const std::string& file, Bytes bytes) {
  std::error_code ignored;
  fs::create_directories(fs::path(file).parent_path(), ignored);
  std::string temporary = file + ".XXXXXX";
  const host::UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return;
  const Bytes seal(reinterpret_cast<const u8*>(kSeal), sizeof kSeal);
  const bool written = host::write_all(fd.number(), bytes) && host::write_all(fd.number(), seal);
  if (!written || rename(temporary.c_str(), file.c_str()) != 0) unlink(temporary.c_str());
}

// Drops the oldest entries. Other processes may be doing the same.
void tidy(const std::string& folder) {
  std::vector<std::pair<fs::file_time_type, fs::path>> entries;
  std::error_code ignored;
  for (fs::directory_iterator i(folder, ignored), end; i != end; i.increment(ignored)) {
    if (!i->path().filename().string().starts_with(kPrefix)) continue;
    entries.emplace_back(i->last_write_time(ignored), i->path());
  }
  if (entries.size() <= kEntriesKept) return;
  std::sort(entries.begin(), entries.end());
  for (usize i = 0; i < entries.size() - kEntriesKept; ++i) fs::remove(entries[i].second, ignored);
}

}  // namespace

UnpackedKernel unpack_kernel(Bytes kernel, const char* path, const std::string& folder) {
  const auto payload = board::boot::find_payload(kernel);
  if (!payload) return {};
  const std::string name = folder.empty() ? "" : entry_name(path);
  const std::string file = folder + "/" + name;
  if (!name.empty()) {
    if (UnpackedKernel cached = read_entry(file, payload.value().unpacked_bytes); !cached.bytes().empty())
      return cached;
  }
  auto unpacked = decompress(payload.value());
  if (!unpacked) return {};
  UnpackedKernel result(unpacked.take(), payload.value().unpacked_bytes);
  if (!name.empty()) {
    write_entry(file, result.bytes());
    tidy(folder);
  }
  return result;
}

}  // namespace nacre::unpack
