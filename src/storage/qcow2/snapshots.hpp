// Internal snapshots: the list that a qcow2 file carries. Any thread.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "storage/qcow2/header.hpp"

namespace nacre::storage::qcow2 {

struct Snapshot {
  std::string id, name;
  u64 l1_offset = 0;
  u32 l1_entries = 0;
  u64 disk_size = 0;
  u64 vm_state_size = 0;
  u32 seconds = 0;  // since 1970
};

struct SnapshotList {
  std::vector<Snapshot> snapshots;
  u64 bytes = 0;  // of the list in the file
};

Result<SnapshotList> read_snapshots(BlockFile& file, const Header& header, const std::string& path);

// Reads an L1 table (or any of that form) at an offset; entries in host order.
Result<std::vector<u64>> read_table(BlockFile& file, u64 offset, u64 entries, const char* what,
                                    const std::string& path);

}  // namespace nacre::storage::qcow2
