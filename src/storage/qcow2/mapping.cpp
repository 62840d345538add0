#include <algorithm>
#include <cerrno>

#include "storage/qcow2/qcow2.hpp"

namespace nacre::storage::qcow2 {

u64 Qcow2::l2_entry_address(u64 offset) const {
  const u64 table = l1_[l1_index(offset)] & kOffsetMask;
  const u64 index = (offset >> geometry_.cluster_bits) & (geometry_.l2_entries() - 1);
  return table == 0 ? 0 : table + index * 8;
}

// Cheap to ask, so it is asked of each place that data goes to: a damaged mapping must not let a guest write
// the structures that decide which files of the host are opened.
bool Qcow2::is_metadata(u64 host, u64 length) const {
  const auto overlaps = [&](u64 start, u64 bytes) { return host < start + bytes && start < host + length; };
  return host < geometry_.cluster_size() || overlaps(l1_offset_, l1_.size() * 8) ||
         (counts_ && overlaps(counts_->table_offset(), counts_->table_bytes()));
}

// What an entry says of the rest of its cluster.
Qcow2::Run Qcow2::decode(u64 entry, u64 offset) const {
  const u64 in_cluster = geometry_.in_cluster(offset);
  Run run;
  run.length = geometry_.cluster_size() - in_cluster;
  run.entry = entry;
  const u64 host = entry & kOffsetMask;
  if ((entry & kCompressed) != 0) {
    run.kind = Run::Kind::Compressed;
    return run;
  }
  const bool zero = (entry & kReadsZero) != 0;
  if (!geometry_.is_aligned(host) || (zero && version_ < 3) || (entry & kL2Reserved) != 0) {
    run.kind = Run::Kind::Damaged;
    return run;
  }
  if (host == 0) {
    run.kind = zero ? Run::Kind::Zero : Run::Kind::Hole;
    return run;
  }
  run.kind = zero ? Run::Kind::Zero : Run::Kind::Data;
  run.is_exclusive = (entry & kCopied) != 0;
  run.host = host + in_cluster;
  return run;
}

std::optional<Qcow2::Run> Qcow2::find(u64 offset, u64 length) {
  const u64 span = u64{1} << geometry_.l1_shift();
  const u64 table = l1_[l1_index(offset)];
  if (table == 0) {
    Run run;
    run.length = std::min(length, span - (offset & (span - 1)));
    return run;
  }
  if ((table & kL1Reserved) != 0 || (table & kOffsetMask) == 0 ||
      !geometry_.is_aligned(table & kOffsetMask)) {
    Run run;
    run.kind = Run::Kind::Damaged;
    run.length = std::min(length, span - (offset & (span - 1)));
    return run;
  }
  const u64 address = l2_entry_address(offset);
  const PageCache::Page* page = l2_pages_.find(address);
  if (page == nullptr) return std::nullopt;

  const u8* entry = page->bytes + (address - page->offset);
  const u8* end = page->bytes + geometry_.page_size();
  Run run = decode(load_big<u64>(entry), offset);
  if (run.kind == Run::Kind::Data && is_metadata(run.host, run.length)) run.kind = Run::Kind::Damaged;
  for (entry += 8; entry != end && run.length < length; entry += 8) {
    if (run.kind == Run::Kind::Compressed || run.kind == Run::Kind::Damaged) break;
    const Run next = decode(load_big<u64>(entry), 0);
    if (next.kind != run.kind || next.is_exclusive != run.is_exclusive) break;
    if (run.kind == Run::Kind::Data &&
        (next.host != run.host + run.length || is_metadata(next.host, next.length)))
      break;
    run.length += next.length;
  }
  run.length = std::min(run.length, length);
  return run;
}

Task<int> Qcow2::load_mapping(u64 offset) {
  const u64 address = l2_entry_address(offset);
  if (address == 0) co_return 0;
  co_return co_await l2_pages_.load(address);
}

void Qcow2::set_l1(u64 index, u64 entry) {
  l1_[index] = entry;
  const u64 sector = index / 64;
  if (std::find(dirty_l1_sectors_.begin(), dirty_l1_sectors_.end(), sector) == dirty_l1_sectors_.end())
    dirty_l1_sectors_.push_back(sector);
}

// Makes the L2 table for offset one that may be changed: a new one, or a copy of one that a snapshot shares.
Task<int> Qcow2::own_table(u64 offset) {
  co_await tables_.lock();
  const u64 index = l1_index(offset);
  const u64 old = l1_[index] & kOffsetMask;
  int error = 0;
  if (!is_table_owned(offset)) {
    const Refcounts::Grant grant = co_await counts_->allocate_zeroed();
    error = grant.error;
    const u64 place = grant.first << geometry_.cluster_bits;
    if (error == 0) l2_pages_.forget(place, geometry_.cluster_size());
    if (error == 0 && old != 0) {
      PageBuffer table(geometry_.cluster_size());
      const iovec memory = piece_of(table.bytes());
      error = co_await Io(*file_, Request::Kind::Read, old, table.size(), {&memory, 1});
      if (error == 0) error = co_await Io(*file_, Request::Kind::Write, place, table.size(), {&memory, 1});
      if (error != 0) static_cast<void>(co_await counts_->release(grant.first, 1));
    }
    if (error == 0) {
      set_l1(index, place | kCopied);
      if (old != 0) {
        dropped_.push_back({old >> geometry_.cluster_bits, 1});
        ++dropped_clusters_;
      }
    }
  }
  tables_.unlock();
  co_return error;
}

u8* Qcow2::entry_in_memory(u64 offset) {
  const u64 address = l2_entry_address(offset);
  const PageCache::Page* page = l2_pages_.find(address);
  NACRE_CHECK(page != nullptr);
  return page->bytes + (address - page->offset);
}

void Qcow2::set_entry(u64 offset, u64 entry, bool drops) {
  PageCache::Page* page = l2_pages_.find(l2_entry_address(offset));
  NACRE_CHECK(page != nullptr);
  u8* place = entry_in_memory(offset);
  const u64 old = load_big<u64>(place);
  store_big(place, entry);
  l2_pages_.mark_dirty(*page);
  if (drops) drop(old);
}

// What an entry of this image referred to has one reference less, once a commit has written that.
void Qcow2::drop(u64 entry) {
  u64 first = 0, end = 0;
  if ((entry & kCompressed) != 0) {
    const CompressedPlace place = compressed_place(entry, geometry_);
    first = place.offset >> geometry_.cluster_bits;
    end = ((place.offset + place.length - 1) >> geometry_.cluster_bits) + 1;
  } else if ((entry & kOffsetMask) != 0) {
    first = (entry & kOffsetMask) >> geometry_.cluster_bits;
    end = first + 1;
  } else {
    return;
  }
  dropped_clusters_ += end - first;
  if (!dropped_.empty() && dropped_.back().first + dropped_.back().count == first) {
    dropped_.back().count += end - first;
  } else {
    dropped_.push_back({first, end - first});
  }
}

Qcow2::Claim* Qcow2::claim_on(u64 first, u64 count) {
  for (Claim& claim : claims_) {
    if (first < claim.first + claim.count && claim.first < first + count) return &claim;
  }
  return nullptr;
}

void Qcow2::give_up(Claims::iterator claim) {
  WaitList waiting = std::move(claim->waiting);
  claims_.erase(claim);
  waiting.wake_all();
}

}  // namespace nacre::storage::qcow2
