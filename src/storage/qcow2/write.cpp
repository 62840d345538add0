#include <algorithm>
#include <cerrno>

#include "storage/qcow2/qcow2.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr usize kMostParts = 16;
constexpr u64 kMostClustersAtOnce = 4096;

}  // namespace

// How many clusters from offset on cannot be written in place, of those that [offset, offset + length)
// touches and nobody has a claim on. Their page is in memory.
u64 Qcow2::clusters_to_allocate(u64 offset, u64 length) {
  const u64 first = offset >> geometry_.cluster_bits;
  const u64 last = (offset + length - 1) >> geometry_.cluster_bits;
  const u64 address = l2_entry_address(offset);
  const u64 in_page = (geometry_.page_size() - (address & (geometry_.page_size() - 1))) / 8;
  const u64 most = std::min({last - first + 1, in_page, kMostClustersAtOnce});
  const u8* entry = entry_in_memory(offset);
  u64 count = 0;
  for (; count < most; ++count, entry += 8) {
    const Run run = decode(load_big<u64>(entry), 0);
    if (run.kind == Run::Kind::Damaged || claim_on(first + count, 1) != nullptr) break;
    if (run.kind == Run::Kind::Data && run.is_exclusive) break;
    if (run.kind == Run::Kind::Zero && run.is_exclusive && count > 0) break;
    if (run.kind == Run::Kind::Zero && run.is_exclusive) return 1;  // has its place: taken alone
  }
  return count;
}

Task<int> Qcow2::write_in_place(u64 host, u64 length, std::vector<iovec> buffers) {
  co_return co_await Io(*file_, Request::Kind::Write, host, length, buffers);
}

Task<int> Qcow2::write(u64 offset, u64 length, std::vector<iovec> buffers) {
  std::vector<Task<int>> parts;
  u64 done = 0;
  int error = 0;
  while (done < length && error == 0) {
    const u64 at = offset + done;
    if (broken_ != 0) {
      error = broken_;
      break;
    }
    if (parts.size() == kMostParts) {
      error = co_await all(&parts);
      continue;
    }
    std::optional<Run> run = find(at, length - done);
    if (!run) {
      error = co_await load_mapping(at);
      continue;
    }
    // From here to where a claim is made or an operation started, nothing else runs.
    const u64 first = at >> geometry_.cluster_bits;
    if (run->kind == Run::Kind::Damaged) {
      fail_damaged();
      error = EIO;
      break;
    }
    if (!is_table_owned(at)) {
      error = co_await own_table(at);
      continue;
    }
    if (Claim* claim = claim_on(first, 1)) {
      co_await claim->waiting.wait();
      continue;
    }
    if (run->kind == Run::Kind::Data && run->is_exclusive) {
      u64 part = run->length;
      while (claim_on(first, ((at + part - 1) >> geometry_.cluster_bits) - first + 1) != nullptr)
        part = geometry_.cluster_size() - geometry_.in_cluster(at);
      parts.push_back(write_in_place(run->host, part, slice(buffers, done, part)));
      done += part;
      continue;
    }
    const u64 clusters = clusters_to_allocate(at, length - done);
    NACRE_CHECK(clusters > 0);
    u64 part = std::min(length - done, ((first + clusters) << geometry_.cluster_bits) - at);
    error = co_await write_claimed(at, &part, clusters, slice(buffers, done, part));
    done += part;
  }
  const int failed = co_await all(&parts);
  co_return error != 0 ? error : failed;
}

// Writes to clusters that need a place, and to the rest of them what was there before. May do less than
// *length.
Task<int> Qcow2::write_claimed(u64 offset, u64* length, u64 clusters, std::vector<iovec> buffers) {
  const u64 first = offset >> geometry_.cluster_bits;
  const u64 start = first << geometry_.cluster_bits;
  const Run before = decode(load_big<u64>(entry_in_memory(offset)), start);
  const auto claim = claims_.insert(claims_.end(), Claim{first, clusters, {}});
  const bool has_place = before.kind == Run::Kind::Zero && before.is_exclusive;
  Refcounts::Grant grant;
  if (has_place) {
    grant = {0, before.host >> geometry_.cluster_bits, 1, false};
  } else {
    grant = co_await counts_->allocate(clusters);
  }
  int error = grant.error;
  if (error == 0 &&
      is_metadata(grant.first << geometry_.cluster_bits, grant.count << geometry_.cluster_bits)) {
    fail_damaged();  // counted as free
    error = EIO;
  }
  if (error == 0) {
    const u64 host = grant.first << geometry_.cluster_bits;
    const u64 end = start + (grant.count << geometry_.cluster_bits);
    *length = std::min(*length, end - offset);
    const u64 head = offset - start, tail = end - (offset + *length);
    PageBuffer around(head + tail);
    const auto head_bytes = around.bytes().first(head), tail_bytes = around.bytes().subspan(head);
    const u64 tail_in_disk = std::min(tail, size_ > offset + *length ? size_ - (offset + *length) : 0);
    if (head + tail_in_disk > 0) {
      std::vector<Task<int>> reads;
      if (head > 0) reads.push_back(read(start, head, {piece_of(head_bytes)}));
      if (tail_in_disk > 0)
        reads.push_back(read(offset + *length, tail_in_disk, {piece_of(tail_bytes.first(tail_in_disk))}));
      error = co_await all(&reads);
    }
    if (error == 0) {
      std::vector<iovec> pieces = slice(buffers, 0, *length);
      const bool alone = grant.is_zero && is_zero(around.bytes());
      if (!alone && head > 0) pieces.insert(pieces.begin(), piece_of(head_bytes));
      if (!alone && tail > 0) pieces.push_back(piece_of(tail_bytes));
      error = co_await Io(*file_, Request::Kind::Write, alone ? offset - start + host : host,
                          alone ? *length : end - start, pieces);
    }
    while (error == 0 && l2_pages_.find(l2_entry_address(offset)) == nullptr)
      error = co_await load_mapping(offset);
    if (error == 0) {
      for (u64 i = 0; i < grant.count; ++i) {
        const u64 place = host + (i << geometry_.cluster_bits);
        set_entry(start + (i << geometry_.cluster_bits), place | kCopied, !has_place);
      }
      commit_if_crowded();
    } else if (!has_place) {
      static_cast<void>(co_await counts_->release(grant.first, grant.count));
    }
  }
  give_up(claim);
  co_return error;
}

}  // namespace nacre::storage::qcow2
