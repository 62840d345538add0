#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>

#include "storage/qcow2/qcow2.hpp"

namespace nacre::storage::qcow2 {
namespace {

constexpr usize kMostParts = 16;    // of one request, read side by side
constexpr usize kMostUnpacked = 8;  // clusters

// Raw deflate with a window of 4 KiB, as the specification has it.
bool inflate_cluster(std::span<const u8> packed, std::span<u8> plain) {
  z_stream stream = {};
  if (inflateInit2(&stream, -12) != Z_OK) return false;
  stream.next_in = const_cast<u8*>(packed.data());
  stream.avail_in = static_cast<uInt>(packed.size());
  stream.next_out = plain.data();
  stream.avail_out = static_cast<uInt>(plain.size());
  const int result = inflate(&stream, Z_FINISH);
  const bool whole =
      stream.avail_out == 0 && (result == Z_STREAM_END || result == Z_BUF_ERROR || result == Z_OK);
  inflateEnd(&stream);
  return whole;
}

// What follows the frame up to the sector's end is of no meaning, so this cannot be the one-shot function.
bool decompress_zstd(std::span<const u8> packed, std::span<u8> plain) {
  ZSTD_DCtx* context = ZSTD_createDCtx();
  if (context == nullptr) return false;
  ZSTD_inBuffer in = {packed.data(), packed.size(), 0};
  ZSTD_outBuffer out = {plain.data(), plain.size(), 0};
  usize result = 1;
  while (out.pos < out.size && in.pos < in.size) {
    const usize before = in.pos + out.pos;
    result = ZSTD_decompressStream(context, &out, &in);
    if (ZSTD_isError(result) != 0 || in.pos + out.pos == before) break;
  }
  ZSTD_freeDCtx(context);
  return ZSTD_isError(result) == 0 && out.pos == out.size;
}

}  // namespace

Task<int> Qcow2::read(u64 offset, u64 length, std::vector<iovec> buffers) {
  std::vector<Task<int>> parts;
  u64 done = 0;
  int error = 0;
  while (done < length && error == 0) {
    const std::optional<Run> run = find(offset + done, length - done);
    if (!run) {
      error = co_await load_mapping(offset + done);
      continue;
    }
    if (parts.size() == kMostParts) {
      error = co_await all(&parts);
      continue;  // what was found may have changed
    }
    parts.push_back(read_run(*run, offset + done, slice(buffers, done, run->length)));
    done += run->length;
  }
  const int failed = co_await all(&parts);
  co_return error != 0 ? error : failed;
}

Task<int> Qcow2::read_run(Run run, u64 offset, std::vector<iovec> buffers) {
  switch (run.kind) {
    case Run::Kind::Data:
      co_return co_await Io(*file_, Request::Kind::Read, run.host, run.length, buffers);
    case Run::Kind::Zero:
      fill_zero(buffers, 0, run.length);
      co_return 0;
    case Run::Kind::Compressed:
      co_return co_await read_compressed(run.entry, geometry_.in_cluster(offset), std::move(buffers));
    case Run::Kind::Damaged:
      fail_damaged();
      co_return EIO;
    case Run::Kind::Hole:
      break;
  }
  const u64 below = has_backing_at(offset) ? std::min(run.length, backing_->size() - offset) : 0;
  fill_zero(buffers, below, run.length - below);
  if (below == 0) co_return 0;
  const auto part = slice(buffers, 0, below);
  co_return co_await Io(*backing_, Request::Kind::Read, offset, below, part);
}

Task<int> Qcow2::read_compressed(u64 entry, u64 in_cluster, std::vector<iovec> buffers) {
  const u64 wanted = bytes_in(buffers);
  for (const Unpacked& kept : unpacked_) {
    if (kept.entry != entry) continue;
    copy_into(buffers, 0, kept.bytes.bytes().subspan(in_cluster, wanted));
    co_return 0;
  }
  const CompressedPlace place = compressed_place(entry, geometry_);
  if (place.offset >= file_->size()) {
    fail_damaged();
    co_return EIO;
  }
  std::vector<u8> packed(place.length);
  const iovec memory = piece_of(packed);
  const u64 sequence = commits_ended_;
  const int error = co_await Io(*file_, Request::Kind::Read, place.offset, place.length, {&memory, 1});
  if (error != 0) co_return error;
  PageBuffer plain(geometry_.cluster_size());
  const bool whole = compression_ == Compression::Zstd ? decompress_zstd(packed, plain.bytes())
                                                       : inflate_cluster(packed, plain.bytes());
  if (!whole) co_return EIO;  // the data is damaged, not the tables
  copy_into(buffers, 0, plain.bytes().subspan(in_cluster, wanted));
  if (sequence != commits_ended_) co_return 0;  // the place may have got another content since
  if (unpacked_.size() < kMostUnpacked) unpacked_.emplace_back();
  next_unpacked_ = (next_unpacked_ + 1) % unpacked_.size();
  unpacked_[next_unpacked_] = {entry, std::move(plain)};
  co_return 0;
}

}  // namespace nacre::storage::qcow2
