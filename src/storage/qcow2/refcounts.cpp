#include "storage/qcow2/refcounts.hpp"

#include <algorithm>
#include <cerrno>

namespace nacre::storage::qcow2 {
namespace {

constexpr u64 kSectorEntries = 512 / 8;
// The file is lengthened by this much at once: each change of its length makes the next flush dearer.
constexpr u64 kGrowth = 4 * kMiB;
// More clusters in use behind the end of the file are no accident.
constexpr u64 kMostLeaked = 1 << 20;

}  // namespace

Refcounts::Refcounts(BlockFile& file, PageCache& pages, const Header& header, std::vector<u64> table)
    : file_(file),
      pages_(pages),
      geometry_(header.geometry),
      table_(std::move(table)),
      table_offset_(header.refcount_table_offset),
      table_clusters_(header.refcount_table_clusters),
      end_(geometry_.clusters_for(file.size())),
      pristine_(end_) {}

u64 Refcounts::address_of(u64 cluster) const {
  const u64 block = block_of(cluster);
  if (block >= table_.size() || table_[block] == 0) return 0;
  const u64 index = cluster & (geometry_.block_entries() - 1);
  return table_[block] + ((index << geometry_.refcount_order) >> 3);
}

Task<Refcounts::Count> Refcounts::count_of(u64 cluster) {
  for (;;) {
    const u64 address = address_of(cluster);
    if (address == 0) co_return Count{};
    if (const PageCache::Page* page = pages_.find(address)) {
      const u64 in_page = cluster & ((geometry_.page_size() << 3 >> geometry_.refcount_order) - 1);
      co_return Count{0, read_count(page->bytes, in_page, geometry_.refcount_order)};
    }
    if (const int error = co_await pages_.load(address); error != 0) co_return Count{error, 0};
  }
}

Task<int> Refcounts::set_count(u64 cluster, u64 value) {
  for (;;) {
    const u64 address = address_of(cluster);
    if (address == 0) co_return EUCLEAN;
    if (PageCache::Page* page = pages_.find(address)) {
      const u64 in_page = cluster & ((geometry_.page_size() << 3 >> geometry_.refcount_order) - 1);
      write_count(page->bytes, in_page, geometry_.refcount_order, value);
      pages_.mark_dirty(*page);
      co_return 0;
    }
    if (const int error = co_await pages_.load(address); error != 0) co_return error;
  }
}

// Makes the file long enough for so many clusters.
int Refcounts::cover(u64 clusters) {
  const u64 bytes = clusters << geometry_.cluster_bits;
  if (bytes <= file_.size()) return 0;
  return file_.resize((bytes + kGrowth - 1) & ~(kGrowth - 1));
}

Task<Refcounts::Grant> Refcounts::allocate(u64 count) {
  co_await mutex_.lock();
  const Grant grant = co_await allocate_locked(count);
  mutex_.unlock();
  co_return grant;
}

Task<Refcounts::Grant> Refcounts::allocate_zeroed() {
  co_await mutex_.lock();
  Grant grant = co_await allocate_locked(1);
  mutex_.unlock();
  if (grant.error != 0) co_return grant;
  const u64 offset = grant.first << geometry_.cluster_bits;
  pages_.forget(offset, geometry_.cluster_size());
  grant.error = co_await Io(file_, Request::Kind::WriteZeroes, offset, geometry_.cluster_size(), {},
                            Request::Space::Keep);
  if (grant.error != 0) static_cast<void>(co_await release(grant.first, 1));
  grant.is_zero = true;
  co_return grant;
}

Task<Refcounts::Grant> Refcounts::allocate_locked(u64 count) {
  if (free_.count() < count && scanned_ < end_) {
    if (const int error = co_await scan(count); error != 0) co_return Grant{error};
  }
  const ExtentSet::Extent extent = free_.take(count);
  if (extent.count == 0) co_return co_await extend(count);
  Grant grant = {0, extent.first, extent.count, false};
  for (u64 i = 0; i < extent.count; ++i) {
    grant.error = co_await set_count(extent.first + i, 1);
    if (grant.error != 0) break;
  }
  co_return grant;
}

// Looks for free clusters where nobody has looked since the image was opened: a little at a time.
Task<int> Refcounts::scan(u64 count) {
  const u64 per_page = geometry_.page_size() << 3 >> geometry_.refcount_order;
  for (int pages = 0; pages < 4 && scanned_ < end_ && free_.count() < count; ++pages) {
    const u64 address = address_of(scanned_);
    const u64 stop = std::min(end_, (scanned_ / per_page + 1) * per_page);
    if (address != 0) {
      if (const int error = co_await pages_.load(address); error != 0) co_return error;
      const PageCache::Page* page = pages_.find(address);
      if (page == nullptr) continue;
      for (u64 cluster = scanned_; cluster < stop; ++cluster) {
        if (cluster != 0 && read_count(page->bytes, cluster % per_page, geometry_.refcount_order) == 0)
          free_.insert(cluster, 1);
      }
      scanned_ = stop;
    } else {
      // No block: what it would count is free, and is found by extending. One that lies within the file is
      // left alone.
      scanned_ = std::min(end_, (block_of(scanned_) + 1) << geometry_.block_bits());
    }
  }
  co_return 0;
}

// New clusters at the end of the file.
Task<Refcounts::Grant> Refcounts::extend(u64 count) {
  for (u64 leaked = 0; leaked < kMostLeaked;) {
    if (end_ + count > kOffsetMask >> geometry_.cluster_bits) co_return Grant{EFBIG};
    const u64 block = block_of(end_);
    if (const int error = co_await ensure_block(block); error != 0) co_return Grant{error};
    if (block_of(end_) != block) continue;  // the block took the last place that it counts
    const u64 first = end_;
    count = std::min(count, geometry_.block_entries() - (first & (geometry_.block_entries() - 1)));
    const Count old = co_await count_of(first);
    if (old.error != 0) co_return Grant{old.error};
    if (old.value != 0) {  // leaked beyond the end of the file: by a crash, or in a damaged image
      if (scanned_ == end_) ++scanned_;
      ++end_;
      ++leaked;
      continue;
    }
    if (scanned_ == end_) scanned_ += count;
    end_ += count;
    Grant grant = {cover(end_), first, count, first >= pristine_};
    for (u64 i = 0; i < count && grant.error == 0; ++i) {
      // A later one may be leaked just so; then what is before it will do.
      if (i > 0) {
        const Count next = co_await count_of(first + i);
        if (next.error != 0 || next.value != 0) {
          grant.count = i;
          break;
        }
      }
      grant.error = co_await set_count(first + i, 1);
    }
    co_return grant;
  }
  co_return Grant{EUCLEAN};
}

// Each part of the file has a block for its counts; a new one goes to the end, usually into the part it
// counts.
Task<int> Refcounts::ensure_block(u64 block) {
  while (block >= table_.size()) {
    if (const int error = co_await grow_table(block); error != 0) co_return error;
  }
  if (table_[block] != 0) co_return 0;
  u64 cluster = end_;
  if (block_of(cluster) != block) {
    if (const int error = co_await ensure_block(block_of(cluster)); error != 0) co_return error;
    if (table_[block] != 0) co_return 0;
    cluster = end_;
  }
  if (scanned_ == end_) ++scanned_;
  ++end_;
  if (const int error = cover(end_); error != 0) co_return error;
  const u64 offset = cluster << geometry_.cluster_bits;
  pages_.forget(offset, geometry_.cluster_size());
  const int error = co_await Io(file_, Request::Kind::WriteZeroes, offset, geometry_.cluster_size(), {},
                                Request::Space::Keep);
  if (error != 0) co_return error;
  table_[block] = offset;
  if (const u64 sector = block / kSectorEntries;
      std::find(dirty_sectors_.begin(), dirty_sectors_.end(), sector) == dirty_sectors_.end())
    dirty_sectors_.push_back(sector);
  const int counted = co_await set_count(cluster, 1);
  if (counted != 0) table_[block] = 0;
  co_return counted;
}

// A larger table, at the end of the file; the header will refer to it after the next commit.
Task<int> Refcounts::grow_table(u64 block) {
  const u64 entries_per_cluster = geometry_.cluster_size() / 8;
  u64 clusters = u64{table_clusters_} + table_clusters_ / 2 + 1;
  const auto needed = [&] {
    return std::max(block, block_of(end_ + clusters + 2 * table_.size() / entries_per_cluster + 8)) + 1;
  };
  while (clusters * entries_per_cluster < needed()) ++clusters;
  if (clusters << geometry_.cluster_bits > kMostRefcountTableBytes) co_return EFBIG;
  const u64 first = end_;
  if (scanned_ == end_) scanned_ += clusters;
  end_ += clusters;
  if (const int error = cover(end_); error != 0) co_return error;
  const u64 before = table_.size();
  table_.resize(clusters * entries_per_cluster);
  int error = 0;
  for (u64 cluster = first; cluster < first + clusters && error == 0; ++cluster) {
    error = co_await ensure_block(block_of(cluster));
    if (error == 0) error = co_await set_count(cluster, 1);
  }
  if (error != 0) {
    for (u64 lost = before; lost < table_.size(); ++lost) {
      if (table_[lost] != 0) pages_.forget(table_[lost], geometry_.cluster_size());
    }
    table_.resize(before);
    std::erase_if(dirty_sectors_, [&](u64 sector) { return sector * kSectorEntries >= before; });
    co_return error;
  }
  abandoned_.push_back({table_offset_ >> geometry_.cluster_bits, table_clusters_});
  table_offset_ = first << geometry_.cluster_bits;
  table_clusters_ = static_cast<u32>(clusters);
  moved_ = true;
  co_return 0;
}

Task<int> Refcounts::repair_count(u64 cluster, u64 value) {
  if (const int error = co_await ensure_block(block_of(cluster)); error != 0) co_return error;
  co_return co_await set_count(cluster, value);
}

Task<Refcounts::Grant> Refcounts::allocate_run(u64 count) {
  const u64 first = end_;
  end_ += count;
  Grant grant = {cover(end_), first, count, first >= pristine_};
  for (u64 i = 0; i < count && grant.error == 0; ++i) grant.error = co_await repair_count(first + i, 1);
  co_return grant;
}

Task<int> Refcounts::release(u64 first, u64 count) {
  int result = 0;
  u64 run = 0;  // clusters before `cluster` that are about to be free
  for (u64 cluster = first; cluster <= first + count; ++cluster) {
    bool last = false;
    if (cluster < first + count) {
      const Count now = co_await count_of(cluster);
      if (now.error != 0) {
        result = now.error;
      } else if (now.value == 0) {
        result = EUCLEAN;
      } else if (now.value == 1) {
        last = true;
      } else if (const int error = co_await set_count(cluster, now.value - 1); error != 0) {
        result = error;
      }
    }
    if (last) {
      ++run;
      continue;
    }
    if (run == 0) continue;
    // The space goes while the count is still one: nobody takes the cluster meanwhile.
    const u64 start = cluster - run;
    pages_.forget(start << geometry_.cluster_bits, run << geometry_.cluster_bits);
    static_cast<void>(co_await Io(file_, Request::Kind::Discard, start << geometry_.cluster_bits,
                                  run << geometry_.cluster_bits));
    for (u64 i = 0; i < run; ++i) {
      const int error = co_await set_count(start + i, 0);
      if (error == 0) {
        free_.insert(start + i, 1);
      } else {
        result = error;
      }
    }
    run = 0;
  }
  co_return result;
}

Task<int> Refcounts::trim_tail() {
  co_await mutex_.lock();
  const int error = trim_tail_locked();
  mutex_.unlock();
  co_return error;
}

int Refcounts::trim_tail_locked() {
  const u64 before = end_;
  for (ExtentSet::Extent tail = free_.take_tail(end_); tail.count != 0; tail = free_.take_tail(end_))
    end_ = tail.first;
  const u64 bytes = end_ << geometry_.cluster_bits;
  scanned_ = std::min(scanned_, end_);
  if (bytes >= file_.size()) return 0;
  const int error = file_.resize(bytes);
  pristine_ = error == 0 ? std::min(pristine_, end_) : std::max(pristine_, before);
  return error;
}

Refcounts::TableChange Refcounts::capture_table() {
  TableChange change = {moved_, table_offset_, table_clusters_, {}};
  const auto add = [&](u64 entry, u64 count) {
    Piece piece = {table_offset_ + entry * 8, PageBuffer(count * 8)};
    for (u64 i = 0; i < count; ++i) store_big(piece.bytes.data() + i * 8, table_[entry + i]);
    change.pieces.push_back(std::move(piece));
  };
  std::vector<u64> later;
  if (moved_) {
    add(0, table_.size());
  } else {
    // While a larger table is being made, the one in the file has no room for all that is in memory.
    const u64 room = table_bytes() / 8;
    for (const u64 sector : dirty_sectors_) {
      const u64 entry = sector * kSectorEntries;
      if (entry < room) {
        add(entry, std::min(kSectorEntries, room - entry));
      } else {
        later.push_back(sector);
      }
    }
  }
  moved_ = false;
  dirty_sectors_ = std::move(later);
  return change;
}

void Refcounts::settle_table(const TableChange& change, bool written) {
  if (written) return;
  if (change.is_moved || moved_) {
    moved_ = true;
    return;
  }
  for (const Piece& piece : change.pieces) dirty_sectors_.push_back((piece.offset - table_offset_) / 512);
}

Task<int> write_table_change(Target* file, const Refcounts::TableChange* change) {
  if (!change->is_moved) co_return co_await write_all(file, &change->pieces);
  u8 place[12];  // offset and length are neighbours in the header, and in one sector
  store_big(place, change->offset);
  store_big(place + 8, change->clusters);
  const iovec memory = {place, sizeof place};
  co_return co_await Io(*file, Request::Kind::Write, Field::refcount_table_offset, sizeof place,
                        {&memory, 1});
}

}  // namespace nacre::storage::qcow2
