// Checks a qcow2 file: that everything it refers to is there, and counted as often as it is referred to.
// Blocks. The file must not be in use.
#pragma once

#include "storage/qcow2/header.hpp"

namespace nacre::storage::qcow2 {

enum class Repair : u8 {
  Nothing,
  Leaks,   // counts that are too high
  Counts,  // all counts, and the flags that follow from them
};

struct CheckReport {
  u64 corruptions = 0;  // writing to the image would destroy something, or something is destroyed
  u64 leaks = 0;        // clusters that are counted but not used: lost space
  u64 corruptions_repaired = 0, leaks_repaired = 0;  // of those
  bool is_dirty = false, is_marked_corrupt = false;
  u64 total_clusters = 0, allocated_clusters = 0, compressed_clusters = 0;  // of the guest's disk
  u64 fragments = 0;  // allocated clusters that do not follow the one before
  u64 file_clusters = 0;
  std::vector<std::string> findings;  // the first of them, as sentences

  [[nodiscard]] bool is_clean() const {
    return corruptions == corruptions_repaired && leaks == leaks_repaired;
  }
};

Result<CheckReport> check(BlockFile& file, const Header& header, const std::string& path, Repair repair);

// Takes back that the image is dirty or corrupt.
Status clear_marks(BlockFile& file, const Header& header, const std::string& path);

// Mends the counts of an image that was not closed, and says so in its header.
Status repair_dirty(BlockFile& file, const Header& header, const std::string& path);

}  // namespace nacre::storage::qcow2
