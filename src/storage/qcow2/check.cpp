#include "storage/qcow2/check.hpp"

#include <algorithm>
#include <unordered_set>

#include "host/error.hpp"
#include "host/mapping.hpp"
#include "storage/qcow2/editor.hpp"
#include "storage/qcow2/snapshots.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr usize kMostFindings = 20;
constexpr u64 kMostClusters = u64{1} << 32;

class Checker {
 public:
  Checker(BlockFile& file, const Header& header, const std::string& path, Repair repair)
      : file_(file), header_(header), geometry_(header.geometry), path_(path), repair_(repair) {}
  Result<CheckReport> run();

 private:
  // A walk over one L1 table counts what it finds, or compares flags with the counts found before.
  enum class Walk : u8 { CountActive, CountSnapshot, CompareFlags };

  void find(const char* what, u64 where);
  void refer(u64 offset, u64 length, const char* what);
  [[nodiscard]] u32 references(u64 offset) const {
    const u64 cluster = (offset & kOffsetMask) >> geometry_.cluster_bits;
    return cluster < clusters_ ? used_[cluster] : 0;
  }
  Status walk_l1(u64 offset, u64 entries, Walk walk);
  Status walk_l2(u64 offset, Walk walk);
  void count_entry(u64 entry, Walk walk);
  // The entry as it should be.
  u64 compare_flag(u64 entry, const char* what);
  Status walk_refcount_table();
  Status walk_bitmaps();
  Status compare_counts();
  Status write_back(u64 offset, std::span<const u8> bytes);
  [[nodiscard]] bool repairs_structure() const { return repair_ == Repair::Counts && damage_ == 0; }

  BlockFile& file_;
  const Header& header_;
  Geometry geometry_;
  const std::string& path_;
  Repair repair_;
  CheckReport report_;
  host::Mapping memory_;
  u32* used_ = nullptr;  // references found to each cluster of the file
  u64 clusters_ = 0;
  u64 damage_ = 0;  // things that mending counts does not mend
  u64 last_host_ = 0;
  std::vector<u64> refcount_table_;
};

void Checker::find(const char* what, u64 where) {
  if (report_.findings.size() < kMostFindings)
    report_.findings.push_back(std::string(what) + " (at " + std::to_string(where) + ")");
}

void Checker::refer(u64 offset, u64 length, const char* what) {
  const u64 first = offset >> geometry_.cluster_bits;
  const u64 last = (offset + length - 1) >> geometry_.cluster_bits;
  if (length == 0) return;
  if (offset + length < offset || last >= clusters_) {
    ++report_.corruptions;
    ++damage_;
    find((std::string(what) + " lies beyond the end of the file").c_str(), offset);
    return;
  }
  for (u64 cluster = first; cluster <= last; ++cluster) {
    if (used_[cluster] != ~u32{0}) ++used_[cluster];
  }
}

void Checker::count_entry(u64 entry, Walk walk) {
  if (entry == 0) return;
  const bool active = walk == Walk::CountActive;
  if ((entry & kCompressed) != 0) {
    const CompressedPlace place = compressed_place(entry, geometry_);
    const u64 start = place.offset & ~u64{511};
    // The last sectors may lie behind the end of a file that was not padded.
    const u64 end =
        std::min(place.offset + place.length, std::max(clusters_ << geometry_.cluster_bits, start + 1));
    refer(start, end - start, "Compressed data");
    if ((entry & kCopied) != 0) {
      ++report_.corruptions;
      ++damage_;
      find("A compressed cluster is marked as writable in place", start);
    }
    if (active) {
      ++report_.allocated_clusters;
      ++report_.compressed_clusters;
    }
    return;
  }
  const u64 host = entry & kOffsetMask;
  if (!geometry_.is_aligned(host) || (entry & kL2Reserved) != 0 ||
      ((entry & kReadsZero) != 0 && header_.version < 3)) {
    ++report_.corruptions;
    ++damage_;
    find("An entry of an L2 table is impossible", host);
    return;
  }
  if (host == 0) return;
  refer(host, geometry_.cluster_size(), "A data cluster");
  if (!active) return;
  ++report_.allocated_clusters;
  if (last_host_ != 0 && host != last_host_ + geometry_.cluster_size()) ++report_.fragments;
  last_host_ = host;
}

u64 Checker::compare_flag(u64 entry, const char* what) {
  if ((entry & kOffsetMask) == 0 || (entry & kCompressed) != 0) return entry;
  const bool alone = references(entry) == 1;
  if (alone == ((entry & kCopied) != 0)) return entry;
  ++report_.corruptions;
  find(what, entry & kOffsetMask);
  if (!repairs_structure()) return entry;
  ++report_.corruptions_repaired;
  return alone ? entry | kCopied : entry & ~kCopied;
}

Status Checker::write_back(u64 offset, std::span<const u8> bytes) {
  if (const int error = write_now(file_, offset, bytes); error != 0)
    return host::error_with_number(error, "Cannot repair", path_.c_str());
  return {};
}

Status Checker::walk_l2(u64 offset, Walk walk) {
  std::vector<u8> table(geometry_.cluster_size());
  if (const int error = read_now(file_, offset, table); error != 0)
    return host::error_with_number(error, "Cannot read a table of", path_.c_str());
  bool changed = false;
  for (u64 i = 0; i < geometry_.l2_entries(); ++i) {
    const u64 entry = load_big<u64>(&table[i * 8]);
    if (walk != Walk::CompareFlags) {
      count_entry(entry, walk);
      continue;
    }
    const u64 right = compare_flag(entry, "A data cluster's flag does not agree with how often it is used");
    if (right == entry) continue;
    store_big(&table[i * 8], right);
    changed = true;
  }
  return changed ? write_back(offset, table) : Status{};
}

Status Checker::walk_l1(u64 offset, u64 entries, Walk walk) {
  auto table = TRY(read_table(file_, offset, entries, "Cannot read an L1 table of", path_));
  std::unordered_set<u64> walked;
  for (u64 i = 0; i < entries; ++i) {
    const u64 entry = table[i];
    const u64 l2 = entry & kOffsetMask;
    if (entry == 0) continue;
    if ((entry & kL1Reserved) != 0 || !geometry_.is_aligned(l2) || l2 == 0) {
      if (walk == Walk::CompareFlags) continue;
      ++report_.corruptions;
      ++damage_;
      find("An entry of an L1 table is impossible", offset + i * 8);
      continue;
    }
    if (walk != Walk::CompareFlags) {
      refer(l2, geometry_.cluster_size(), "An L2 table");
    } else if (const u64 right =
                   compare_flag(entry, "An L2 table's flag does not agree with how often it is used");
               right != entry) {
      u8 bytes[8];
      store_big(bytes, right);
      TRY(write_back(offset + i * 8, bytes));
    }
    if (l2 >> geometry_.cluster_bits >= clusters_) continue;
    if (walked.insert(l2).second) {
      TRY(walk_l2(l2, walk));
    } else if (walk != Walk::CompareFlags) {
      ++report_.corruptions;
      ++damage_;
      find("An L2 table is used for two parts of a disk", l2);
    }
  }
  return {};
}

Status Checker::walk_refcount_table() {
  const u64 entries = u64{header_.refcount_table_clusters} << geometry_.cluster_bits >> 3;
  refcount_table_ = TRY(
      read_table(file_, header_.refcount_table_offset, entries, "Cannot read the refcount table of", path_));
  for (u64& block : refcount_table_) {
    if (block == 0) continue;
    if (geometry_.is_aligned(block) && block >> geometry_.cluster_bits < clusters_) {
      refer(block, geometry_.cluster_size(), "A refcount block");
      continue;
    }
    ++report_.corruptions;
    ++damage_;
    find("An entry of the refcount table is impossible", block);
    block = 0;
  }
  return {};
}

// Dirty bitmaps, which QEMU keeps for backups: a directory of tables of clusters. The specification, "Bitmaps
// extension".
Status Checker::walk_bitmaps() {
  const Header::Bitmaps& bitmaps = header_.bitmaps;
  if (bitmaps.count == 0) return {};
  if (bitmaps.directory_bytes > 64 * kMiB)
    return Error("The bitmaps of ").append(path_.c_str()).append(" are damaged.");
  std::vector<u8> directory(bitmaps.directory_bytes);
  refer(bitmaps.directory_offset, bitmaps.directory_bytes, "The directory of bitmaps");
  if (const int error = read_now(file_, bitmaps.directory_offset, directory); error != 0)
    return host::error_with_number(error, "Cannot read the bitmaps of", path_.c_str());
  for (u64 at = 0; at + 24 <= directory.size();) {
    const u64 offset = load_big<u64>(&directory[at]);
    const u32 entries = load_big<u32>(&directory[at + 8]);
    const u16 name = load_big<u16>(&directory[at + 18]);
    const u32 extra = load_big<u32>(&directory[at + 20]);
    at += (u64{24} + name + extra + 7) & ~u64{7};
    if (u64{entries} * 8 > kMostL1Bytes)
      return Error("The bitmaps of ").append(path_.c_str()).append(" are damaged.");
    refer(offset, u64{entries} * 8, "A table of a bitmap");
    const auto table = TRY(read_table(file_, offset, entries, "Cannot read the bitmaps of", path_));
    for (const u64 entry : table) {
      if ((entry & kOffsetMask) != 0) refer(entry & kOffsetMask, geometry_.cluster_size(), "A bitmap");
    }
  }
  return {};
}

Status Checker::compare_counts() {
  std::vector<u8> block(geometry_.cluster_size());
  std::unique_ptr<Editor> editor;
  const bool may_lower = repair_ != Repair::Nothing && damage_ == 0;
  // Behind the end of the file nothing is used; what is counted there was about to be when the machine
  // crashed.
  const u64 blocks = std::max<u64>(refcount_table_.size(),
                                   (clusters_ + geometry_.block_entries() - 1) >> geometry_.block_bits());
  for (u64 index = 0; index < blocks; ++index) {
    const u64 first = index << geometry_.block_bits();
    const u64 place = index < refcount_table_.size() ? refcount_table_[index] : 0;
    if (place == 0 && first >= clusters_) continue;
    if (place == 0) {
      std::fill(block.begin(), block.end(), u8{0});
    } else if (const int error = read_now(file_, place, block); error != 0) {
      return host::error_with_number(error, "Cannot read the refcounts of", path_.c_str());
    }
    for (u64 i = 0; i < geometry_.block_entries(); ++i) {
      const u64 cluster = first + i, used = cluster < clusters_ ? used_[cluster] : 0;
      const u64 count = read_count(block.data(), i, geometry_.refcount_order);
      if (count == used) continue;
      const bool leaked = count > used;
      find(leaked ? "A cluster is counted more often than it is used"
                  : "A cluster is used more often than it is counted",
           cluster << geometry_.cluster_bits);
      ++(leaked ? report_.leaks : report_.corruptions);
      if (!(leaked ? may_lower : repairs_structure()) || used > geometry_.most_references()) continue;
      if (!editor) editor = TRY(Editor::open(file_, header_, path_));
      if (const int error = editor->set_count(cluster, used); error != 0)
        return host::error_with_number(error, "Cannot repair", path_.c_str());
      ++(leaked ? report_.leaks_repaired : report_.corruptions_repaired);
    }
  }
  if (!editor) return {};
  if (const int error = editor->write(); error != 0)
    return host::error_with_number(error, "Cannot repair", path_.c_str());
  return {};
}

Result<CheckReport> Checker::run() {
  clusters_ = geometry_.clusters_for(file_.size());
  if (clusters_ > kMostClusters)
    return Error("The image ").append(path_.c_str()).append(" is too large to be checked.");
  memory_ = TRY(host::Mapping::anonymous(clusters_ * sizeof(u32) + kPageSize));
  used_ = reinterpret_cast<u32*>(memory_.data());
  report_.is_dirty = header_.is_dirty();
  report_.is_marked_corrupt = header_.is_corrupt();
  report_.total_clusters = geometry_.clusters_for(header_.size);
  report_.file_clusters = clusters_;

  refer(0, geometry_.cluster_size(), "The header");
  refer(header_.refcount_table_offset, u64{header_.refcount_table_clusters} << geometry_.cluster_bits,
        "The refcount table");
  refer(header_.l1_offset, u64{header_.l1_entries} * 8, "The L1 table");
  TRY(walk_refcount_table());
  TRY(walk_l1(header_.l1_offset, header_.l1_entries, Walk::CountActive));
  if (header_.snapshots != 0) {
    const SnapshotList list = TRY(read_snapshots(file_, header_, path_));
    refer(header_.snapshots_offset, list.bytes, "The list of snapshots");
    for (const Snapshot& snapshot : list.snapshots) {
      refer(snapshot.l1_offset, u64{snapshot.l1_entries} * 8, "The L1 table of a snapshot");
      TRY(walk_l1(snapshot.l1_offset, snapshot.l1_entries, Walk::CountSnapshot));
    }
  }
  TRY(walk_bitmaps());
  TRY(compare_counts());
  TRY(walk_l1(header_.l1_offset, header_.l1_entries, Walk::CompareFlags));
  if (report_.corruptions_repaired + report_.leaks_repaired > 0) {
    if (const int error = flush_now(file_); error != 0)
      return host::error_with_number(error, "Cannot repair", path_.c_str());
  }
  return std::move(report_);
}

}  // namespace

Result<CheckReport> check(BlockFile& file, const Header& header, const std::string& path, Repair repair) {
  Checker checker(file, header, path, repair);
  return checker.run();
}

Status clear_marks(BlockFile& file, const Header& header, const std::string& path) {
  u8 bits[8];
  store_big(bits, header.incompatible & ~(Incompatible::dirty | Incompatible::corrupt));
  int error = flush_now(file);
  if (error == 0) error = write_now(file, Field::incompatible, bits);
  if (error == 0) error = flush_now(file);
  if (error != 0) return host::error_with_number(error, "Cannot repair", path.c_str());
  return {};
}

Status repair_dirty(BlockFile& file, const Header& header, const std::string& path) {
  const CheckReport report = TRY(check(file, header, path, Repair::Counts));
  if (report.corruptions == report.corruptions_repaired) return clear_marks(file, header, path);
  return Error("The qcow2 image ")
      .append(path.c_str())
      .append(" was not closed and cannot be mended; nacre disk check says what is wrong with it.");
}

}  // namespace nacre::storage::qcow2
