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
// An entry is the vmlinux, the setup header, and this, so that half a file, one of another version of Nacre,
// or something else is not taken.
constexpr char kSeal[16] = "nacre vmlinux 2";
constexpr usize kBehind = board::boot::kSetupBytes + sizeof kSeal;

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

UnpackedKernel read_entry(const std::string& file) {
  const host::UniqueFd fd(open(file.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat s = {};
  if (!fd || fstat(fd.number(), &s) != 0 || s.st_uid != geteuid()) return {};
  const u64 size = static_cast<u64>(s.st_size);
  if (size <= kBehind) return {};
  auto mapping = host::Mapping::shared_file(fd.number(), size, PROT_READ);
  if (!mapping || !std::equal(kSeal, kSeal + sizeof kSeal, mapping->data() + size - sizeof kSeal)) return {};
  return {mapping.take(), size - kBehind};
}

// All of it or nothing; a full disk is no reason to stop.
void write_entry(const std::string& file, const UnpackedKernel& kernel) {
  std::error_code ignored;
  fs::create_directories(fs::path(file).parent_path(), ignored);
  std::string temporary = file + ".XXXXXX";
  const host::UniqueFd fd(mkostemp(temporary.data(), O_CLOEXEC));
  if (!fd) return;
  const Bytes seal(reinterpret_cast<const u8*>(kSeal), sizeof kSeal);
  const bool written = host::write_all(fd.number(), kernel.vmlinux()) &&
                       host::write_all(fd.number(), kernel.header()) && host::write_all(fd.number(), seal);
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

UnpackedKernel find_unpacked(const char* path, const std::string& folder) {
  const std::string name = folder.empty() ? "" : entry_name(path);
  return name.empty() ? UnpackedKernel{} : read_entry(folder + "/" + name);
}

UnpackedKernel unpack_kernel(Bytes kernel, const char* path, const std::string& folder) {
  const auto payload = board::boot::find_payload(kernel);
  if (!payload || kernel.size() < board::boot::kSetupBytes) return {};
  auto unpacked = decompress(payload.value(), board::boot::kSetupBytes);
  if (!unpacked) return {};
  const u64 bytes = payload.value().unpacked_bytes;
  std::copy_n(kernel.begin(), board::boot::kSetupBytes, unpacked->data() + bytes);
  UnpackedKernel result(unpacked.take(), bytes);
  if (const std::string name = folder.empty() ? "" : entry_name(path); !name.empty()) {
    write_entry(folder + "/" + name, result);
    tidy(folder);
  }
  return result;
}

}  // namespace nacre::unpack
