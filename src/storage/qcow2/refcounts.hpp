// Refcounts: how often each cluster of the file is referred to, and which are free. Counts change in memory;
// commits write them. Driven from the image's I/O thread.
#pragma once

#include <utility>
#include <vector>

#include "storage/qcow2/extent_set.hpp"
#include "storage/qcow2/header.hpp"
#include "storage/qcow2/page_cache.hpp"

namespace nacre::storage::qcow2 {

class Refcounts {
 public:
  Refcounts(BlockFile& file, PageCache& pages, const Header& header, std::vector<u64> table);

  struct Count {
    int error = 0;
    u64 value = 0;
  };
  // A cluster beyond what the table covers has none.
  Task<Count> count_of(u64 cluster);

  struct Grant {
    int error = 0;
    u64 first = 0, count = 0;  // clusters
    bool is_zero = false;      // the file reads as zeros there
  };
  // One to `count` clusters in a row, each with a count of one now.
  Task<Grant> allocate(u64 count);
  // Exactly one, for metadata: it reads as zeros, and writing to it will not find the disk full.
  Task<Grant> allocate_zeroed();
  // Takes one reference from each of [first, first + count), and gives up the space of those that are then
  // free: nothing in the file refers to them any more, and nobody is writing to them. EUCLEAN: one had none
  // to take.
  Task<int> release(u64 first, u64 count);

  // For tools. Whatever the count was; makes the place for it if there is none.
  Task<int> repair_count(u64 cluster, u64 value);
  // Exactly `count` in a row, at the end of the file.
  Task<Grant> allocate_run(u64 count);

  // Cuts free clusters at the end off the file; the errno or 0.
  Task<int> trim_tail();
  // Space that is in no use: what tables once occupied.
  std::vector<ExtentSet::Extent> take_abandoned() { return std::exchange(abandoned_, {}); }

  // What a commit writes to the table, and how that went.
  struct TableChange {
    bool is_moved = false;  // written whole at `offset`, which nothing refers to yet
    u64 offset = 0;         // of the table
    u32 clusters = 0;
    std::vector<Piece> pieces;
  };
  [[nodiscard]] bool is_table_dirty() const { return moved_ || !dirty_sectors_.empty(); }
  TableChange capture_table();
  void settle_table(const TableChange& change, bool written);

  [[nodiscard]] u64 table_offset() const { return table_offset_; }
  [[nodiscard]] u64 table_bytes() const { return u64{table_clusters_} << geometry_.cluster_bits; }
  [[nodiscard]] u64 end() const { return end_; }  // clusters that the file has
  [[nodiscard]] u64 free_known() const { return free_.count(); }

 private:
  [[nodiscard]] u64 block_of(u64 cluster) const { return cluster >> geometry_.block_bits(); }
  // Where in the file the count of a cluster is; 0: there is no block for it.
  [[nodiscard]] u64 address_of(u64 cluster) const;
  Task<int> set_count(u64 cluster, u64 value);
  Task<Grant> allocate_locked(u64 count);
  Task<int> scan(u64 count);
  Task<Grant> extend(u64 count);
  Task<int> ensure_block(u64 block);
  Task<int> grow_table(u64 block);
  int trim_tail_locked();
  int cover(u64 clusters);

  BlockFile& file_;
  PageCache& pages_;
  Geometry geometry_;
  std::vector<u64> table_;  // offsets of blocks, as many as the table has room for
  u64 table_offset_;
  u32 table_clusters_;
  bool moved_ = false;              // the table is not yet where the header says
  std::vector<u64> dirty_sectors_;  // 64 entries each
  u64 end_;                         // clusters of the file; those from here on are not in use
  u64 pristine_;                    // clusters from here on read as zeros
  u64 scanned_ = 0;                 // free clusters below this are in free_
  ExtentSet free_;
  AsyncMutex mutex_;
  std::vector<ExtentSet::Extent> abandoned_;
};

// The second stage of a commit: makes the file refer to what is new of the table.
Task<int> write_table_change(Target* file, const Refcounts::TableChange* change);

}  // namespace nacre::storage::qcow2
