#include "storage/qcow2/header.hpp"

#include <algorithm>
#include <cerrno>

#include "host/error.hpp"

namespace nacre::storage::qcow2 {
namespace {

Error refuse(const std::string& path, const char* why) {
  return Error("The qcow2 image ").append(path.c_str()).append(" ").append(why).append(".");
}

Status check_features(const Header& header, u32 crypt, const std::string& path) {
  if (crypt == 1)
    return refuse(path, "is encrypted with AES, which Nacre does not read; convert it with qemu-img");
  if (crypt == 2)
    return refuse(path, "is encrypted with LUKS, which Nacre does not read; convert it with qemu-img");
  if (crypt != 0) return refuse(path, "is encrypted in a way that is not known");
  const u64 bits = header.incompatible;
  if ((bits & Incompatible::external_data) != 0)
    return refuse(path,
                  "keeps its data in an external file, which Nacre does not read; convert it with qemu-img");
  if ((bits & Incompatible::extended_l2) != 0)
    return refuse(
        path, "has extended L2 entries (subclusters), which Nacre does not read; convert it with qemu-img");
  constexpr u64 known = Incompatible::dirty | Incompatible::corrupt | Incompatible::compression;
  if ((bits & ~known) != 0) return refuse(path, "needs a feature that this version of Nacre does not know");
  return {};
}

// A table of the file: aligned to clusters, and not beyond what addresses can say. That it lies within the
// file is asked of those that are read at once.
bool is_table(const Header& header, u64 offset, u64 bytes, u64 file_size) {
  return header.geometry.is_aligned(offset) && offset != 0 && offset <= file_size &&
         bytes <= file_size - offset;
}

Status check_tables(const Header& header, const std::string& path, u64 file_size) {
  const Geometry& geometry = header.geometry;
  if (u64{header.l1_entries} * 8 > kMostL1Bytes) return refuse(path, "has an L1 table larger than 32 MiB");
  if (geometry.l1_entries_for(header.size) > header.l1_entries)
    return refuse(path, "has an L1 table too small for its disk");
  if (header.l1_entries != 0 && !is_table(header, header.l1_offset, u64{header.l1_entries} * 8, file_size))
    return refuse(path, "has its L1 table outside of the file: it is truncated or damaged");
  const u64 table_bytes = u64{header.refcount_table_clusters} << geometry.cluster_bits;
  if (table_bytes > kMostRefcountTableBytes) return refuse(path, "has a refcount table larger than 8 MiB");
  if (header.refcount_table_clusters == 0) return refuse(path, "has no refcount table");
  if (!is_table(header, header.refcount_table_offset, table_bytes, file_size))
    return refuse(path, "has its refcount table outside of the file: it is truncated or damaged");
  if (header.snapshots > kMostSnapshots) return refuse(path, "has more than 65536 snapshots");
  if (header.snapshots != 0 && !is_table(header, header.snapshots_offset, 0, file_size))
    return refuse(path, "has its list of snapshots outside of the file");
  return {};
}

// Extensions follow the header and end at the backing file's name or the cluster.
Status read_extensions(Header& header, std::span<const u8> cluster, usize end, const std::string& path) {
  usize at = header.length;
  while (at + 8 <= end) {
    const auto type = static_cast<Extension>(load_big<u32>(&cluster[at]));
    const u32 length = load_big<u32>(&cluster[at + 4]);
    if (type == Extension::End) break;
    at += 8;
    if (length > end - at) return refuse(path, "has a header extension that does not end");
    const auto content = cluster.subspan(at, length);
    if (type == Extension::BackingFormat) {
      header.backing_format.assign(content.begin(), content.end());
    } else if (type == Extension::Bitmaps && length >= 24 && (header.autoclear & Autoclear::bitmaps) != 0) {
      header.bitmaps = {load_big<u32>(&content[0]), load_big<u64>(&content[8]), load_big<u64>(&content[16])};
    }
    at += (usize{length} + 7) & ~usize{7};
  }
  return {};
}

}  // namespace

Result<Header> read_header(BlockFile& file, const std::string& path) {
  std::vector<u8> start(kMostHeaderBytes);
  const u64 file_size = file.size();
  start.resize(std::min<u64>(start.size(), file_size));
  if (const int error = read_now(file, 0, start); error != 0)
    return host::error_with_number(error, "Cannot read the image", path.c_str());
  if (start.size() < 4 || load_big<u32>(start.data()) != kMagic)
    return Error("The image ")
        .append(path.c_str())
        .append(" is not in the qcow2 format: it does not start with QFI\\xfb.");
  if (start.size() < kHeaderV2) return refuse(path, "is truncated: it ends within its header");

  const auto word = [&](u32 at) { return load_big<u32>(&start[at]); };
  const auto quad = [&](u32 at) { return load_big<u64>(&start[at]); };
  Header header;
  header.version = word(Field::version);
  if (header.version != 2 && header.version != 3)
    return Error("The qcow2 image ")
        .append(path.c_str())
        .append(" is of version ")
        .append_number(header.version)
        .append("; Nacre knows 2 and 3.");
  header.geometry.cluster_bits = word(Field::cluster_bits);
  if (header.geometry.cluster_bits < kLeastClusterBits || header.geometry.cluster_bits > kMostClusterBits)
    return refuse(path, "says its clusters are not between 512 bytes and 2 MiB");
  header.size = quad(Field::size);
  if (header.size > u64{1} << 62) return refuse(path, "says its disk is larger than any can be");
  header.l1_entries = word(Field::l1_entries);
  header.l1_offset = quad(Field::l1_offset);
  header.refcount_table_offset = quad(Field::refcount_table_offset);
  header.refcount_table_clusters = word(Field::refcount_table_clusters);
  header.snapshots = word(Field::snapshots);
  header.snapshots_offset = quad(Field::snapshots_offset);
  header.length = kHeaderV2;
  if (header.version >= 3) {
    if (start.size() < kHeaderV3) return refuse(path, "is truncated: it ends within its header");
    header.incompatible = quad(Field::incompatible);
    header.compatible = quad(Field::compatible);
    header.autoclear = quad(Field::autoclear);
    header.geometry.refcount_order = word(Field::refcount_order);
    header.length = word(Field::header_length);
    if (header.geometry.refcount_order > 6) return refuse(path, "has refcounts wider than 64 bits");
    if (header.length < kHeaderV3 || header.length % 8 != 0 || header.length > start.size() ||
        header.length > header.geometry.cluster_size())
      return refuse(path, "has an impossible header length");
    if (header.length > Field::compression && (header.incompatible & Incompatible::compression) != 0) {
      const u8 type = start[Field::compression];
      if (type > static_cast<u8>(Compression::Zstd))
        return refuse(path, "is compressed in a way that is not known");
      header.compression = static_cast<Compression>(type);
    }
  }
  TRY(check_features(header, word(Field::crypt), path));
  TRY(check_tables(header, path, file_size));

  usize end = std::min<u64>(header.geometry.cluster_size(), start.size());
  const u64 name_offset = quad(Field::backing_offset);
  const u32 name_length = word(Field::backing_length);
  if (name_offset != 0 && name_length != 0) {
    if (name_length > kMostBackingName || name_offset > end || name_length > end - name_offset)
      return refuse(path, "has the name of its backing file outside of its first cluster");
    header.backing_name.assign(reinterpret_cast<const char*>(&start[name_offset]), name_length);
    if (header.backing_name.find('\0') != std::string::npos)
      return refuse(path, "has a backing file with an impossible name");
    end = name_offset;
  }
  TRY(read_extensions(header, start, end, path));
  return header;
}

std::vector<u8> make_header(const Header& header) {
  std::vector<u8> bytes(header.geometry.cluster_size());
  const auto word = [&](u32 at, u32 value) { store_big(&bytes[at], value); };
  const auto quad = [&](u32 at, u64 value) { store_big(&bytes[at], value); };
  word(Field::magic, kMagic);
  word(Field::version, header.version);
  word(Field::cluster_bits, header.geometry.cluster_bits);
  quad(Field::size, header.size);
  word(Field::l1_entries, header.l1_entries);
  quad(Field::l1_offset, header.l1_offset);
  quad(Field::refcount_table_offset, header.refcount_table_offset);
  word(Field::refcount_table_clusters, header.refcount_table_clusters);
  usize at = kHeaderV2;
  if (header.version >= 3) {
    quad(Field::incompatible, header.incompatible);
    quad(Field::compatible, header.compatible);
    quad(Field::autoclear, header.autoclear);
    word(Field::refcount_order, header.geometry.refcount_order);
    at = header.length;
    word(Field::header_length, static_cast<u32>(at));
    if (at > Field::compression) bytes[Field::compression] = static_cast<u8>(header.compression);
  }
  if (!header.backing_format.empty()) {
    word(static_cast<u32>(at), static_cast<u32>(Extension::BackingFormat));
    word(static_cast<u32>(at + 4), static_cast<u32>(header.backing_format.size()));
    memcpy(&bytes[at + 8], header.backing_format.data(), header.backing_format.size());
    at += 8 + ((header.backing_format.size() + 7) & ~usize{7});
  }
  at += 8;  // the end of extensions: zeros
  if (!header.backing_name.empty()) {
    memcpy(&bytes[at], header.backing_name.data(), header.backing_name.size());
    quad(Field::backing_offset, at);
    word(Field::backing_length, static_cast<u32>(header.backing_name.size()));
  }
  return bytes;
}

}  // namespace nacre::storage::qcow2
