#include "storage/tools.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "host/error.hpp"

namespace nacre::storage {
namespace {

// The backing file's name as the new image says it: relative names are relative to the image's folder.
std::string name_seen_from(const std::string& image, const std::string& backing) {
  if (backing.starts_with('/')) return backing;
  std::error_code ignored;
  const auto folder = std::filesystem::absolute(image, ignored).parent_path();
  const std::string name =
      std::filesystem::absolute(backing, ignored).lexically_normal().lexically_proximate(folder);
  // "a:b" would be read as a protocol.
  const usize colon = name.find(':'), slash = name.find('/');
  return colon != std::string::npos && (slash == std::string::npos || colon < slash) ? "./" + name : name;
}

Status write_new(HostFile& file, const CreateRequest& request, u64 size) {
  if (request.format == Format::Qcow2) {
    qcow2::NewImage wanted = request.qcow2;
    wanted.size = size;
    if (!request.backing.empty()) {
      wanted.backing_name = name_seen_from(request.path, request.backing);
      wanted.backing_format = name_of(request.backing_format);
    }
    return qcow2::format_file(file, wanted, request.path);
  }
  int error = file.resize(size);
  if (error == 0) error = flush_now(file);
  if (error != 0) return host::error_with_number(error, "Cannot write the image", request.path.c_str());
  return {};
}

}  // namespace

Status create_image(Loop& loop, const CreateRequest& asked) {
  CreateRequest request = asked;
  u64 size = request.size;
  if (!request.backing.empty()) {
    if (request.format == Format::Raw) return Error{"A raw image has no backing file; use --format qcow2."};
    OpenOptions options;
    options.locking = Locking::Unlocked;
    options.format = request.backing_format;
    const auto backing = TRY(open_image(loop, request.backing, options));
    request.backing_format = backing->format();
    if (size == 0) size = backing->size();
  }
  auto file = TRY(HostFile::create(loop, request.path));
  const Status written = write_new(*file, request, size);
  if (!written) unlink(request.path.c_str());
  return written;
}

Result<std::vector<ImageInfo>> image_info(Loop& loop, const std::string& path, Format format) {
  // Opened as a whole first: that says what is wrong with a chain.
  OpenOptions options;
  options.locking = Locking::Unlocked;
  options.format = format;
  const auto whole = TRY(open_image(loop, path, options));
  std::vector<ImageInfo> chain;
  std::string next = path;
  for (Format said = format; !next.empty();) {
    auto file = TRY(HostFile::open(loop, next, Access::ReadOnly, Locking::Unlocked));
    ImageInfo info;
    info.path = next;
    info.format = said == Format::Detect ? TRY(detect_format(*file, next)) : said;
    info.size = file->size();
    info.allocated = file->allocated_bytes();
    if (info.format == Format::Qcow2) {
      info.header = TRY(qcow2::read_header(*file, next));
      info.size = info.header.size;
      info.snapshots = TRY(qcow2::read_snapshots(*file, info.header, next)).snapshots;
    }
    next = info.header.backing_name.empty() ? "" : TRY(backing_path(info.path, info.header.backing_name));
    said = format_named(info.header.backing_format);
    chain.push_back(std::move(info));
  }
  return chain;
}

Status resize_image(Loop& loop, const std::string& path, Format format, u64 size) {
  // Opening repairs what was left dirty, and says what else is wrong.
  OpenOptions options;
  options.access = Access::ReadWrite;
  options.format = format;
  auto image = TRY(open_image(loop, path, options));
  format = image->format();
  const u64 before = image->size();
  TRY(image->close());
  image.reset();
  auto file = TRY(HostFile::open(loop, path, Access::ReadWrite));
  if (format == Format::Qcow2) return qcow2::grow(*file, size, path);
  if (size < before)
    return Error("The disk in ")
        .append(path.c_str())
        .append(" would lose its end: Nacre makes disks larger only.");
  int error = file->resize(size);
  if (error == 0) error = flush_now(*file);
  if (error != 0) return host::error_with_number(error, "Cannot resize the image", path.c_str());
  return {};
}

Result<qcow2::CheckReport> check_image(Loop& loop, const std::string& path, Format format,
                                       qcow2::Repair repair) {
  const Access access = repair == qcow2::Repair::Nothing ? Access::ReadOnly : Access::ReadWrite;
  auto file = TRY(HostFile::open(loop, path, access));
  if (format == Format::Detect) format = TRY(detect_format(*file, path));
  if (format == Format::Raw) return qcow2::CheckReport{};
  const qcow2::Header header = TRY(qcow2::read_header(*file, path));
  if (header.is_dirty() && repair != qcow2::Repair::Nothing) repair = qcow2::Repair::Counts;
  qcow2::CheckReport report = TRY(qcow2::check(*file, header, path, repair));
  // A repaired image may be written to again.
  if (repair == qcow2::Repair::Counts && report.is_clean() && (header.is_dirty() || header.is_corrupt())) {
    TRY(qcow2::clear_marks(*file, header, path));
    report.is_dirty = report.is_marked_corrupt = false;
  }
  return report;
}

}  // namespace nacre::storage
