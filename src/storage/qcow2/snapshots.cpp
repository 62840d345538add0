#include "storage/qcow2/snapshots.hpp"

#include <algorithm>

#include "host/error.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr u64 kEntryBytes = 40;
constexpr u64 kMostListBytes = 64 * kMiB;

Error damaged(const std::string& path, const char* why) {
  return Error("The list of snapshots in ").append(path.c_str()).append(" ").append(why).append(".");
}

}  // namespace

Result<std::vector<u64>> read_table(BlockFile& file, u64 offset, u64 entries, const char* what,
                                    const std::string& path) {
  std::vector<u8> bytes(entries * 8);
  if (const int error = read_now(file, offset, bytes); error != 0)
    return host::error_with_number(error, what, path.c_str());
  std::vector<u64> table(entries);
  for (u64 i = 0; i < entries; ++i) table[i] = load_big<u64>(&bytes[i * 8]);
  return table;
}

Result<SnapshotList> read_snapshots(BlockFile& file, const Header& header, const std::string& path) {
  SnapshotList list;
  u64 at = header.snapshots_offset;
  for (u32 i = 0; i < header.snapshots; ++i) {
    std::vector<u8> entry(kEntryBytes);
    if (at > file.size() || file.size() - at < kEntryBytes)
      return damaged(path, "does not end within the file");
    if (const int error = read_now(file, at, entry); error != 0)
      return host::error_with_number(error, "Cannot read the snapshots of", path.c_str());
    Snapshot snapshot;
    snapshot.l1_offset = load_big<u64>(&entry[0]);
    snapshot.l1_entries = load_big<u32>(&entry[8]);
    const u16 id_length = load_big<u16>(&entry[12]), name_length = load_big<u16>(&entry[14]);
    snapshot.seconds = load_big<u32>(&entry[16]);
    snapshot.vm_state_size = load_big<u32>(&entry[32]);
    const u32 extra = load_big<u32>(&entry[36]);
    snapshot.disk_size = header.size;
    const u64 rest = u64{extra} + id_length + name_length;
    if (extra > 1024) return damaged(path, "has an entry that is too large");
    if (rest > file.size() - at - kEntryBytes) return damaged(path, "does not end within the file");
    std::vector<u8> tail(rest);
    if (const int error = read_now(file, at + kEntryBytes, tail); error != 0)
      return host::error_with_number(error, "Cannot read the snapshots of", path.c_str());
    if (extra >= 8) snapshot.vm_state_size = load_big<u64>(&tail[0]);
    if (extra >= 16) snapshot.disk_size = load_big<u64>(&tail[8]);
    const auto text = tail.begin() + extra;
    snapshot.id.assign(text, text + id_length);
    snapshot.name.assign(text + id_length, text + id_length + name_length);
    const Geometry& geometry = header.geometry;
    const u64 l1_bytes = u64{snapshot.l1_entries} * 8;
    if (l1_bytes > kMostL1Bytes || !geometry.is_aligned(snapshot.l1_offset) ||
        snapshot.l1_offset > file.size() || l1_bytes > file.size() - snapshot.l1_offset ||
        snapshot.disk_size > u64{1} << 62 ||
        geometry.l1_entries_for(snapshot.disk_size) > snapshot.l1_entries)
      return damaged(path, "has an entry with an impossible L1 table");
    list.snapshots.push_back(std::move(snapshot));
    at += (kEntryBytes + rest + 7) & ~u64{7};
    if (at - header.snapshots_offset > kMostListBytes) return damaged(path, "is larger than 64 MiB");
  }
  list.bytes = at - header.snapshots_offset;
  return list;
}

}  // namespace nacre::storage::qcow2
