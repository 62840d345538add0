#include <algorithm>
#include <array>
#include <cerrno>

#include "storage/qcow2/qcow2.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr u64 kZeroPiece = 64 * kKiB, kZerosAtOnce = 2 * kMiB;
alignas(kPageSize) constexpr std::array<u8, kZeroPiece> kZeros = {};

}  // namespace

// Writes zeros where something else is read.
Task<int> Qcow2::write_zeros(u64 offset, u64 length) {
  int error = 0;
  while (length > 0 && error == 0) {
    const std::optional<Run> run = find(offset, length);
    if (!run) {
      error = co_await load_mapping(offset);
      continue;
    }
    u64 part = std::min(run->length, kZerosAtOnce);
    const bool zero =
        run->kind == Run::Kind::Zero || (run->kind == Run::Kind::Hole && !has_backing_at(offset));
    // A claim is a write that may be about to change what is read here.
    const u64 first = offset >> geometry_.cluster_bits;
    const u64 last = (offset + part - 1) >> geometry_.cluster_bits;
    if (!zero || claim_on(first, last - first + 1) != nullptr) {
      std::vector<iovec> pieces;
      for (u64 done = 0; done < part; done += kZeroPiece)
        pieces.push_back(piece_of_constant(std::span(kZeros).first(std::min(kZeroPiece, part - done))));
      error = co_await write(offset, part, std::move(pieces));
    }
    offset += part;
    length -= part;
  }
  co_return error;
}

Task<int> Qcow2::zero(u64 offset, u64 length, Request::Kind kind, Request::Space space) {
  const u64 end = offset + length;
  const u64 last_whole = end == size_ ? geometry_.clusters_for(end) << geometry_.cluster_bits
                                      : end & ~(geometry_.cluster_size() - 1);
  const u64 first_whole = geometry_.clusters_for(offset) << geometry_.cluster_bits;
  if (first_whole >= last_whole) {
    if (kind == Request::Kind::Discard) co_return 0;
    co_return co_await write_zeros(offset, length);
  }
  int error = 0;
  if (kind == Request::Kind::WriteZeroes && offset < first_whole)
    error = co_await write_zeros(offset, first_whole - offset);
  if (error == 0)
    error = co_await zero_clusters(first_whole, std::min(last_whole, end) - first_whole, kind, space);
  if (error == 0 && kind == Request::Kind::WriteZeroes && last_whole < end)
    error = co_await write_zeros(last_whole, end - last_whole);
  if (error == 0) commit_if_crowded();
  co_return error;
}

// Whole clusters (the last one may be cut by the end of the disk), a page of a table at a time.
Task<int> Qcow2::zero_clusters(u64 offset, u64 length, Request::Kind kind, Request::Space space) {
  const bool discards = kind == Request::Kind::Discard;
  const u64 end = offset + length;
  int error = 0;
  while (offset < end && error == 0) {
    if (broken_ != 0) co_return broken_;
    const bool over_backing = has_backing_at(offset);
    if (over_backing && version_ < 3) {
      // No way to say "zero" in the table: a discard has nothing to give back without changing what is read.
      if (discards) co_return 0;
      co_return co_await write_zeros(offset, end - offset);
    }
    const std::optional<Run> run = find(offset, end - offset);
    if (!run) {
      error = co_await load_mapping(offset);
      continue;
    }
    if (run->kind == Run::Kind::Damaged) {
      fail_damaged();
      co_return EIO;
    }
    const u64 first = offset >> geometry_.cluster_bits;
    if (Claim* claim = claim_on(first, 1)) {
      co_await claim->waiting.wait();
      continue;
    }
    const bool has_cluster = run->kind == Run::Kind::Data || run->kind == Run::Kind::Compressed ||
                             (run->kind == Run::Kind::Zero && (run->entry & kOffsetMask) != 0);
    const bool stays_hole = run->kind == Run::Kind::Hole && (discards || !over_backing);
    const bool stays_zero =
        run->kind == Run::Kind::Zero && (!has_cluster || (!discards && space == Request::Space::Keep));
    if (stays_hole || stays_zero) {
      offset += run->length;
      continue;
    }
    if (!is_table_owned(offset)) {
      error = co_await own_table(offset);
      continue;
    }
    if (l2_pages_.find(l2_entry_address(offset)) == nullptr) {
      error = co_await load_mapping(offset);
      continue;
    }
    // All in one step from here.
    const u64 cluster_end = ((offset + run->length - 1) >> geometry_.cluster_bits) + 1;
    for (u64 cluster = first; cluster < cluster_end && claim_on(cluster, 1) == nullptr; ++cluster) {
      const u64 where = cluster << geometry_.cluster_bits;
      const u64 old = load_big<u64>(entry_in_memory(where));
      const bool keeps = !discards && space == Request::Space::Keep && version_ >= 3 &&
                         run->kind == Run::Kind::Data && run->is_exclusive;
      if (keeps) {
        set_entry(where, old | kReadsZero, false);
      } else {
        set_entry(where, has_backing_at(where) ? kReadsZero : 0);
      }
      offset = where + geometry_.cluster_size();
    }
  }
  co_return error;
}

}  // namespace nacre::storage::qcow2
