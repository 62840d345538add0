#include "storage/open.hpp"

#include <strings.h>
#include <unistd.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "host/error.hpp"
#include "storage/qcow2/check.hpp"
#include "storage/qcow2/qcow2.hpp"
#include "storage/raw.hpp"

namespace nacre::storage {
namespace {

constexpr usize kMostImages = 64;  // in a chain

using Chain = std::vector<HostFile::Identity>;  // of the files so far

Result<std::unique_ptr<Image>> open_one(Loop& loop, const std::string& path, const OpenOptions& options,
                                        Chain& chain);

Result<std::unique_ptr<Image>> open_backing(Loop& loop, const std::string& overlay,
                                            const qcow2::Header& header, const OpenOptions& above,
                                            Chain& chain) {
  if (header.backing_name.empty()) return std::unique_ptr<Image>();
  const std::string path = TRY(backing_path(overlay, header.backing_name));
  OpenOptions options;
  options.locking = above.locking;
  options.cache_bytes = above.cache_bytes;
  options.kept = above.kept;
  options.given = above.given;
  if (!header.backing_format.empty()) {
    options.format = format_named(header.backing_format);
    if (options.format == Format::Detect) {
      return Error("The backing file ")
          .append(path.c_str())
          .append(" is in the format ")
          .append(header.backing_format.c_str())
          .append(", which Nacre does not know; convert it with qemu-img.");
    }
  }
  if (options.given == nullptr && access(path.c_str(), R_OK) != 0)
    return host::errno_error(("Cannot open what " + overlay + " is an overlay on,").c_str(), path.c_str());
  return open_one(loop, path, options, chain);
}

Result<const qcow2::Snapshot*> find_snapshot(const qcow2::SnapshotList& list, const std::string& wanted,
                                             const std::string& path) {
  for (const qcow2::Snapshot& snapshot : list.snapshots) {
    if (snapshot.name == wanted || snapshot.id == wanted) return &snapshot;
  }
  return Error("There is no snapshot ")
      .append(wanted.c_str())
      .append(" in ")
      .append(path.c_str())
      .append(".");
}

Result<Format> decide_format(BlockFile& file, const std::string& path, const OpenOptions& options) {
  if (options.format != Format::Detect) return options.format;
  if (options.unsaid == Unsaid::ByContent) return detect_format(file, path);
  if (is_named_qcow2(path)) return Format::Qcow2;  // what is none is told by its header
  if (TRY(detect_format(file, path)) == Format::Raw) return Format::Raw;
  return Error("The disk image ")
      .append(path.c_str())
      .append(
          " starts as a qcow2 image does but is not named .qcow2, and a guest can write that on a raw disk: "
          "say "
          "format=qcow2 if you made it as one, else format=raw.");
}

Result<std::unique_ptr<Image>> open_qcow2(Loop& loop, const std::string& path, std::unique_ptr<HostFile> file,
                                          const OpenOptions& options, Chain& chain) {
  qcow2::Header header = TRY(qcow2::read_header(*file, path));
  if (options.format == Format::Detect && !header.backing_name.empty() && !is_named_qcow2(path)) {
    return Error("The image ")
        .append(path.c_str())
        .append(" looks like qcow2 with the backing file \"")
        .append(header.backing_name.c_str())
        .append(
            "\", but nobody has said that it is: a guest can write that on a raw disk. Say its format, or "
            "name "
            "it .qcow2.");
  }
  if (header.is_dirty() && options.access == Access::ReadWrite) {
    TRY(qcow2::repair_dirty(*file, header, path));
    header = TRY(qcow2::read_header(*file, path));
  }
  qcow2::Options inner;
  inner.access = options.access;
  inner.cache_bytes = options.cache_bytes;
  qcow2::SnapshotList snapshots;
  if (!options.snapshot.empty()) {
    if (options.access == Access::ReadWrite)
      return Error{"A snapshot inside of an image is opened for reading only."};
    snapshots = TRY(qcow2::read_snapshots(*file, header, path));
    inner.snapshot = TRY(find_snapshot(snapshots, options.snapshot, path));
  }
  auto backing = TRY(open_backing(loop, path, header, options, chain));
  auto image = TRY(qcow2::Qcow2::open(std::move(file), header, std::move(backing), inner, path));
  return std::unique_ptr<Image>(std::move(image));
}

Result<std::unique_ptr<HostFile>> open_named(Loop& loop, const std::string& path, const OpenOptions& options,
                                             Chain& chain) {
  // The loop of a chain that comes back to its start must not be taken for another process.
  auto probe = TRY(HostFile::open(loop, path, Access::ReadOnly, Locking::Unlocked));
  const HostFile::Identity identity = probe->identity();
  if (std::find(chain.begin(), chain.end(), identity) != chain.end())
    return Error("The backing files of an image come back to ")
        .append(path.c_str())
        .append(": it is its own backing file.");
  chain.push_back(identity);
  return HostFile::open(loop, path, options.access, options.locking);
}

// Who opened them has looked for loops, and locked them.
Result<std::unique_ptr<HostFile>> take_given(Loop& loop, const std::string& path, const OpenOptions& options,
                                             Chain& chain) {
  if (chain.size() == options.given->size())
    return Error("The image ").append(path.c_str()).append(" was handed over without all of its backing files.");
  auto file = TRY(HostFile::from(loop, std::move((*options.given)[chain.size()]), path, options.access));
  chain.push_back(file->identity());
  return file;
}

Result<std::unique_ptr<Image>> open_one(Loop& loop, const std::string& path, const OpenOptions& options,
                                        Chain& chain) {
  if (chain.size() == kMostImages)
    return Error("The chain of backing files reaches ")
        .append(path.c_str())
        .append(" and is longer than 64 images.");
  auto file = TRY(options.given != nullptr ? take_given(loop, path, options, chain) : open_named(loop, path, options, chain));
  if (options.kept != nullptr) options.kept->push_back(TRY(file->duplicate(path)));
  const Format format = TRY(decide_format(*file, path, options));
  if (format == Format::Qcow2) return open_qcow2(loop, path, std::move(file), options, chain);
  if (!options.snapshot.empty())
    return Error("The image ").append(path.c_str()).append(" is raw and has no snapshots.");
  // By its name the next start would take it for qcow2.
  const bool stays_raw = options.format == Format::Raw && !is_named_qcow2(path);
  const auto said = stays_raw ? Raw::Said::ByUser : Raw::Said::ByNobody;
  return std::unique_ptr<Image>(std::make_unique<Raw>(std::move(file), options.access, said));
}

}  // namespace

Result<std::unique_ptr<Image>> open_image(Loop& loop, const std::string& path, const OpenOptions& options) {
  Chain chain;
  return open_one(loop, path, options, chain);
}

Result<Format> detect_format(BlockFile& file, const std::string& path) {
  u8 start[4] = {};
  if (const int error = read_now(file, 0, start); error != 0)
    return host::error_with_number(error, "Cannot read the image", path.c_str());
  return qcow2::load_big<u32>(start) == qcow2::kMagic ? Format::Qcow2 : Format::Raw;
}

bool is_named_qcow2(const std::string& path) {
  constexpr std::string_view kEnding = ".qcow2";
  return path.size() > kEnding.size() &&
         strcasecmp(path.c_str() + path.size() - kEnding.size(), kEnding.data()) == 0;
}

Result<std::string> backing_path(const std::string& overlay, const std::string& name) {
  std::string path = name;
  const usize slash = path.find('/'), colon = path.find(':');
  if (path.starts_with("file:")) {
    path = path.substr(5);
    if (path.starts_with("//")) path = path.substr(2);
  } else if (colon != std::string::npos && (slash == std::string::npos || colon < slash)) {
    return Error("The image ")
        .append(overlay.c_str())
        .append(" has the backing file \"")
        .append(name.c_str())
        .append("\", which is not a file of this host; Nacre opens files only.");
  }
  if (path.starts_with('/')) return path;
  const usize folder = overlay.rfind('/');
  return folder == std::string::npos ? path : overlay.substr(0, folder + 1) + path;
}

}  // namespace nacre::storage
