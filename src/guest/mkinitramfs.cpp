// Writes a guest's initramfs without root.
//
//   mkinitramfs OUTPUT --busybox FILE --applets FILE [--file GUEST-PATH=FILE]... [--tree FOLDER]...
//
// --applets is what "busybox --list-full" prints. --file and --tree keep the permission bits of what they
// bring;
// --tree brings the files, folders and symbolic links below FOLDER. OUTPUT is replaced in one step, or left
// as it was. Exit status: 0 done, 1 could not (one sentence says why), 2 wrong usage.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "guest/initramfs.hpp"

namespace nacre::guest {
namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<std::byte>;

struct FileCloser {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, FileCloser>;

Error failed(const char* action, const std::string& what, int reason) {
  return Error("Cannot ")
      .append(action)
      .append(" ")
      .append(what.c_str())
      .append(": ")
      .append(std::strerror(reason))
      .append(".");
}

Result<Bytes> read_file(const fs::path& path) {
  const File file(std::fopen(path.c_str(), "rb"));
  if (!file) return failed("open", path, errno);
  Bytes content;
  std::byte buffer[65536];
  while (const auto count = std::fread(buffer, 1, sizeof buffer, file.get()))
    content.insert(content.end(), buffer, buffer + count);
  if (std::ferror(file.get())) return failed("read", path, errno);
  return content;
}

// A full disk may show as late as fclose. Nothing is left behind on failure.
Status write_file(const std::string& path, const Bytes& content) {
  const std::string unfinished = path + ".new";
  File file(std::fopen(unfinished.c_str(), "wb"));
  if (!file) return failed("create", unfinished, errno);
  const bool written = std::fwrite(content.data(), 1, content.size(), file.get()) == content.size();
  int reason = written ? 0 : errno;
  if (std::fclose(file.release()) != 0 && written) reason = errno;
  if (reason == 0 && std::rename(unfinished.c_str(), path.c_str()) != 0) reason = errno;
  if (reason == 0) return {};
  std::remove(unfinished.c_str());
  return failed("write", path, reason);
}

Status add_file(CpioWriter& archive, const fs::path& from, const std::string& to) {
  struct stat status {};
  if (stat(from.c_str(), &status) != 0) return failed("read", from, errno);
  const Bytes content = TRY(read_file(from));
  if (archive.file(to, status.st_mode & 07777, content)) return {};
  return Error("Cannot add ")
      .append(from.c_str())
      .append(" as ")
      .append(to.c_str())
      .append(": the place is taken, or the file is over 4 GiB.");
}

Status add_entry(CpioWriter& archive, const fs::directory_entry& entry, const std::string& to) {
  std::error_code error;
  bool added = false;
  if (entry.is_symlink(error)) {
    added = archive.symlink(to, fs::read_symlink(entry.path(), error).string());
  } else if (entry.is_directory(error)) {
    added = archive.directory(to, static_cast<u32>(entry.status(error).permissions()));
  } else if (entry.is_regular_file(error)) {
    return add_file(archive, entry.path(), to);
  }
  if (error) return failed("read", entry.path(), error.value());
  if (added) return {};
  return Error("Cannot add ")
      .append(entry.path().c_str())
      .append(": the place is taken, or it is no file, folder or symbolic link.");
}

Status add_tree(CpioWriter& archive, const fs::path& root) {
  std::error_code error;
  std::vector<fs::directory_entry> entries;
  for (fs::recursive_directory_iterator at(root, error), end; !error && at != end; at.increment(error))
    entries.push_back(*at);
  if (error) return failed("read", root, error.value());
  std::sort(entries.begin(), entries.end());  // the same bytes whatever order the host's file system has
  for (const auto& entry : entries)
    TRY(add_entry(archive, entry, entry.path().lexically_relative(root).string()));
  return {};
}

struct Sources {
  std::string busybox, applets;
};

// Options act in their order: what comes first takes the place.
Status take_option(CpioWriter& archive, Sources& sources, const std::string& option,
                   const std::string& value) {
  if (option == "--busybox") {
    sources.busybox = value;
  } else if (option == "--applets") {
    sources.applets = value;
  } else if (option == "--tree") {
    TRY(add_tree(archive, value));
  } else if (const auto equals = value.find('='); option == "--file" && equals != value.npos) {
    TRY(add_file(archive, value.substr(equals + 1), value.substr(0, equals)));
  } else {
    return Error("Cannot understand ").append(option.c_str()).append(" ").append(value.c_str()).append(".");
  }
  return {};
}

Status build(CpioWriter& archive, const Sources& sources, const std::string& output) {
  const Bytes busybox = TRY(read_file(sources.busybox));
  const Bytes applets = TRY(read_file(sources.applets));
  const std::string_view names(reinterpret_cast<const char*>(applets.data()), applets.size());
  if (!add_base_tree(archive, {busybox, names}))
    return Error(
        "A file given by --file or --tree stands where the guest's own /init, BusyBox or devices belong.");
  return write_file(output, archive.finish());
}

Status run(int argc, char** argv) {
  CpioWriter archive;
  Sources sources;
  for (int i = 2; i + 1 < argc; i += 2) TRY(take_option(archive, sources, argv[i], argv[i + 1]));
  if (sources.busybox.empty() || sources.applets.empty()) return Error("--busybox and --applets are needed.");
  return build(archive, sources, argv[1]);
}

}  // namespace
}  // namespace nacre::guest

int main(int argc, char** argv) {
  if (argc < 2 || argc % 2 != 0 || argv[1][0] == '-') {
    std::fputs(
        "Usage: mkinitramfs OUTPUT --busybox FILE --applets FILE [--file GUEST-PATH=FILE]... [--tree "
        "FOLDER]...\n",
        stderr);
    return 2;
  }
  const auto status = nacre::guest::run(argc, argv);
  if (status.ok()) return 0;
  std::fprintf(stderr, "mkinitramfs: %s\n", status.error().message());
  return 1;
}
