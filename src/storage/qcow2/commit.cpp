#include <algorithm>
#include <cerrno>

#include "storage/qcow2/qcow2.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr u64 kMostDroppedBytes = 16 * kMiB;  // then they are worth a commit of their own
constexpr usize kMostDropped = 1024;

}  // namespace

Task<int> Qcow2::flush() {
  const bool clean = l2_pages_.dirty_pages() == 0 && count_pages_.dirty_pages() == 0 &&
                     dirty_l1_sectors_.empty() && !counts_->is_table_dirty() && dropped_.empty() &&
                     !committing_;
  if (clean) {
    const int error = co_await Io(*file_, Request::Kind::Flush, 0, 0);
    if (error != 0 && error != ENOSPC && error != EDQUOT) broken_ = error;
    co_return error;
  }
  co_return co_await commit();
}

// Makes durable what has been done before. Those who ask while a commit is being written share the next one.
Task<int> Qcow2::commit() {
  const u64 wanted = commits_started_ + 1;
  while (committing_) {
    co_await commit_ended_.wait();
    if (commits_ended_ >= wanted) co_return commit_error_;
  }
  committing_ = true;
  ++commits_started_;
  const int error = co_await commit_once();
  commit_error_ = error;
  commits_ended_ = commits_started_;
  committing_ = false;
  commit_ended_.wake_all();
  co_return error;
}

std::vector<Piece> Qcow2::capture_l1() {
  std::vector<Piece> pieces;
  for (const u64 sector : std::exchange(dirty_l1_sectors_, {})) {
    const u64 first = sector * 64, count = std::min<u64>(64, l1_.size() - first);
    Piece piece = {l1_offset_ + first * 8, PageBuffer(count * 8)};
    for (u64 i = 0; i < count; ++i) store_big(piece.bytes.data() + i * 8, l1_[first + i]);
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

// docs/storage.md: counts; new parts of the refcount table; references. A flush behind each.
Task<int> Qcow2::commit_once() {
  // All at one moment: counts and references that belong together are in the same commit.
  const std::vector<Piece> counts = count_pages_.capture();
  const Refcounts::TableChange table = counts_->capture_table();
  std::vector<Piece> references = l2_pages_.capture();
  const usize l2_count = references.size();
  std::vector<u64> l1_sectors = dirty_l1_sectors_;
  for (Piece& piece : capture_l1()) references.push_back(std::move(piece));
  for (const ExtentSet::Extent& old : counts_->take_abandoned()) dropped_.push_back({old.first, old.count});
  std::vector<Dropped> dropped = std::exchange(dropped_, {});
  dropped_clusters_ = 0;

  bool flush_failed = false;
  int error = co_await write_all(file_.get(), &counts);
  if (error == 0 && table.is_moved) error = co_await write_all(file_.get(), &table.pieces);
  if (error == 0) {
    error = co_await Io(*file_, Request::Kind::Flush, 0, 0);
    flush_failed = error != 0;
  }
  if (error == 0 && !table.pieces.empty()) {
    error = co_await write_table_change(file_.get(), &table);
    if (error == 0) {
      error = co_await Io(*file_, Request::Kind::Flush, 0, 0);
      flush_failed = error != 0;
    }
  }
  if (error == 0 && !references.empty()) {
    error = co_await write_all(file_.get(), &references);
    if (error == 0) {
      error = co_await Io(*file_, Request::Kind::Flush, 0, 0);
      flush_failed = error != 0;
    }
  }
  // After a flush that failed, the host may have forgotten what it could not write: nothing can be promised
  // any more.
  if (flush_failed && error != ENOSPC && error != EDQUOT) broken_ = error;

  const bool written = error == 0;
  count_pages_.settle(counts, written);
  counts_->settle_table(table, written);
  references.resize(l2_count);
  l2_pages_.settle(references, written);
  if (written) {
    if (!dropped.empty()) ripening_.push_back({sequence_ + 1, std::move(dropped)});
    ripen();
  } else {
    dropped_.insert(dropped_.begin(), dropped.begin(), dropped.end());
    for (const u64 sector : l1_sectors) set_l1(sector * 64, l1_[sector * 64]);
  }
  co_return error;
}

void Qcow2::commit_if_crowded() {
  if (committing_) return;
  if (l2_pages_.is_crowded() || count_pages_.is_crowded() || dropped_.size() > kMostDropped ||
      dropped_clusters_ << geometry_.cluster_bits > kMostDroppedBytes)
    commit_in_background();
}

Detached Qcow2::commit_in_background() {
  ++background_;
  static_cast<void>(co_await commit());
  --background_;
}

// Clusters are free when no request is under way that may have found the old reference to them.
void Qcow2::ripen() {
  if (freeing_ || ripening_.empty()) return;
  if (oldest_ != nullptr && oldest_->sequence < ripening_.front().sequence) return;
  free_ripe();
}

Detached Qcow2::free_ripe() {
  freeing_ = true;
  ++background_;
  while (!ripening_.empty() && (oldest_ == nullptr || oldest_->sequence >= ripening_.front().sequence)) {
    const Ripening ripe = std::move(ripening_.front());
    ripening_.pop_front();
    unpacked_.clear();
    for (const Dropped& part : ripe.dropped) {
      l2_pages_.forget(part.first << geometry_.cluster_bits, part.count << geometry_.cluster_bits);
      const int error = co_await counts_->release(part.first, part.count);
      if (error == EUCLEAN) fail_damaged();
    }
    static_cast<void>(co_await counts_->trim_tail());
  }
  freeing_ = false;
  --background_;
  commit_ended_.wake_all();
}

// Everything to the file, and the space of what is free to the host.
Task<int> Qcow2::finish_everything() {
  int error = broken_;
  for (int round = 0; round < 3 && error == 0; ++round) {
    error = co_await commit();
    // With no request under way, what the commit freed is being freed now.
    while (freeing_) co_await commit_ended_.wait();  // its end wakes them too
  }
  if (error == 0) error = co_await counts_->trim_tail();
  co_return error;
}

}  // namespace nacre::storage::qcow2
