#include "storage/qcow2/qcow2.hpp"

#include <algorithm>
#include <cerrno>

#include "host/error.hpp"

namespace nacre::storage::qcow2 {

Qcow2::Qcow2(std::unique_ptr<BlockFile> file, const Header& header, std::unique_ptr<Image> backing,
             const Options& options)
    : Image(options.access),
      file_(std::move(file)),
      backing_(std::move(backing)),
      geometry_(header.geometry),
      size_(options.snapshot != nullptr ? options.snapshot->disk_size : header.size),
      version_(header.version),
      compression_(header.compression),
      incompatible_(header.incompatible),
      l1_offset_(options.snapshot != nullptr ? options.snapshot->l1_offset : header.l1_offset),
      l2_pages_(*file_, *this, geometry_.page_size(), options.cache_bytes),
      count_pages_(*file_, *this, geometry_.page_size(), options.cache_bytes / 4) {}

Result<std::unique_ptr<Qcow2>> Qcow2::open(std::unique_ptr<BlockFile> file, const Header& header,
                                           std::unique_ptr<Image> backing, const Options& options,
                                           const std::string& path) {
  const bool writes = options.access == Access::ReadWrite;
  const auto damaged = [&](const char* what) {
    return Error("The qcow2 image ").append(path.c_str()).append(" ").append(what);
  };
  if (writes && header.is_corrupt())
    return damaged("is marked corrupt and is not written to; nacre disk check says what is wrong with it.");
  if (writes && header.is_dirty()) return damaged("was not closed; nacre disk check --repair mends that.");
  NACRE_CHECK(!writes || options.snapshot == nullptr);

  std::unique_ptr<Qcow2> image(new Qcow2(std::move(file), header, std::move(backing), options));
  const u32 entries = options.snapshot != nullptr ? options.snapshot->l1_entries : header.l1_entries;
  image->l1_ =
      TRY(read_table(*image->file_, image->l1_offset_, entries, "Cannot read the L1 table of", path));
  if (!writes) return image;

  const u64 room = u64{header.refcount_table_clusters} << header.geometry.cluster_bits >> 3;
  auto table = TRY(read_table(*image->file_, header.refcount_table_offset, room,
                              "Cannot read the refcount table of", path));
  for (const u64 block : table) {
    if (!header.geometry.is_aligned(block) || (block & ~kOffsetMask) != 0)
      return damaged("has a damaged refcount table; nacre disk check says more.");
  }
  image->counts_.emplace(*image->file_, image->count_pages_, header, std::move(table));
  if (header.autoclear != 0) {
    // We keep none of what these bits say is up to date.
    const std::vector<u8> none(8);
    int error = write_now(*image->file_, Field::autoclear, none);
    if (error == 0) error = flush_now(*image->file_);
    if (error != 0) return host::error_with_number(error, "Cannot write the header of", path.c_str());
  }
  return image;
}

Qcow2::~Qcow2() {
  while (oldest_ != nullptr || background_ != 0) file_->wait();
  for (Operation* operation : spare_) delete operation;
}

// --- requests under way ---

Qcow2::Operation* Qcow2::begin(Request& request) {
  Operation* operation = nullptr;
  if (spare_.empty()) {
    operation = new Operation;
    operation->image = this;
  } else {
    operation = spare_.back();
    spare_.pop_back();
  }
  operation->request = &request;
  operation->sequence = ++sequence_;
  operation->stage = Operation::Stage::Submitting;
  operation->newer = nullptr;
  operation->older = newest_;
  (newest_ != nullptr ? newest_->newer : oldest_) = operation;
  newest_ = operation;
  return operation;
}

void Qcow2::retire(Operation* operation) {
  (operation->newer != nullptr ? operation->newer->older : newest_) = operation->older;
  (operation->older != nullptr ? operation->older->newer : oldest_) = operation->newer;
  operation->buffers = {};
  spare_.push_back(operation);
  if (!ripening_.empty()) ripen();
}

// A piece of the file's I/O that stands for a whole request has come back.
void Qcow2::Operation::completed() {
  Request& whole = *request;
  whole.error = error;
  image->retire(this);
  whole.completed();
}

Detached Qcow2::serve(Operation* operation) {
  Request& request = *operation->request;
  const int error = co_await carry_out(request);
  request.error = error;
  if (operation->stage == Operation::Stage::Submitting) {
    operation->stage = Operation::Stage::Complete;
    co_return;
  }
  retire(operation);
  request.completed();
}

bool Qcow2::submit(Request& request) {
  if (refuses(request)) return true;
  const bool changes = request.kind != Request::Kind::Read;
  if (changes && is_read_only()) return true;  // a flush
  if (changes && broken_ != 0) {
    request.error = broken_;
    return true;
  }
  if (request.length == 0 && request.kind != Request::Kind::Flush) return true;
  const bool may_be_short = request.kind == Request::Kind::Read || request.kind == Request::Kind::Write;
  if (may_be_short) {
    const Start start = start_directly(request);
    if (start != Start::NotPossible) return start == Start::Complete;
  }
  Operation* operation = begin(request);
  serve(operation);
  if (operation->stage == Operation::Stage::Complete) {
    retire(operation);
    return true;
  }
  operation->stage = Operation::Stage::UnderWay;
  return false;
}

// The short path: what is mapped in one piece, by tables that are in memory, is one operation on the file.
// False if the request is none of these. `error` is -1 if it is under way.
Qcow2::Start Qcow2::start_directly(Request& request) {
  const bool writes = request.kind == Request::Kind::Write;
  const std::optional<Run> run = find(request.offset, request.length);
  if (!run || run->length < request.length) return Start::NotPossible;
  if (run->kind != Run::Kind::Data) {
    const bool zero =
        run->kind == Run::Kind::Zero || (run->kind == Run::Kind::Hole && !has_backing_at(request.offset));
    if (writes || !zero) return Start::NotPossible;
    for (const iovec& piece : request.buffers) memset(piece.iov_base, 0, piece.iov_len);
    return Start::Complete;
  }
  if (writes) {
    const u64 first = request.offset >> geometry_.cluster_bits;
    const u64 last = (request.offset + request.length - 1) >> geometry_.cluster_bits;
    if (!run->is_exclusive || !is_table_owned(request.offset) || claim_on(first, last - first + 1) != nullptr)
      return Start::NotPossible;
  }
  Operation* operation = begin(request);
  operation->kind = request.kind;
  operation->offset = run->host;
  operation->length = request.length;
  operation->buffers = request.buffers;
  operation->stage = Operation::Stage::UnderWay;
  if (!file_->submit(*operation)) return Start::UnderWay;
  request.error = operation->error;
  retire(operation);
  return Start::Complete;
}

Task<int> Qcow2::carry_out(Request& request) {
  switch (request.kind) {
    case Request::Kind::Read:
      co_return co_await read(request.offset, request.length,
                              {request.buffers.begin(), request.buffers.end()});
    case Request::Kind::Write:
      co_return co_await write(request.offset, request.length,
                               {request.buffers.begin(), request.buffers.end()});
    case Request::Kind::Flush:
      co_return co_await flush();
    case Request::Kind::Discard:
    case Request::Kind::WriteZeroes:
      co_return co_await zero(request.offset, request.length, request.kind, request.space);
  }
  co_return EINVAL;
}

// --- damage ---

void Qcow2::fail_damaged() {
  if (is_read_only() || broken_ != 0) return;
  broken_ = EIO;
  if (version_ >= 3) mark_corrupt();
}

Detached Qcow2::mark_corrupt() {
  ++background_;
  incompatible_ |= Incompatible::corrupt;
  u8 bits[8];
  store_big(bits, incompatible_);
  const iovec memory = {bits, sizeof bits};
  static_cast<void>(
      co_await Io(*file_, Request::Kind::Write, Field::incompatible, sizeof bits, {&memory, 1}));
  static_cast<void>(co_await Io(*file_, Request::Kind::Flush, 0, 0));
  --background_;
}

// --- for tools ---

template <typename T>
T Qcow2::finish(Task<T> task) {
  while (!task.is_done()) file_->wait();
  return std::move(task.result());
}

Result<Image::Extent> Qcow2::extent_at(u64 offset) {
  NACRE_CHECK(offset < size_);
  std::optional<Run> run;
  while (!(run = find(offset, size_ - offset))) {
    if (const int error = finish(load_mapping(offset)); error != 0)
      return host::error_with_number(error, "Cannot read the image's tables");
  }
  Extent extent = {offset + run->length, run->kind == Run::Kind::Zero};
  if (run->kind != Run::Kind::Hole) return extent;
  if (!has_backing_at(offset)) return Extent{extent.end, true};
  const Extent below = TRY(backing_->extent_at(offset));
  return Extent{std::min(extent.end, below.end), below.is_zero};
}

Status Qcow2::close() {
  while (oldest_ != nullptr || background_ != 0) file_->wait();
  if (is_read_only()) return {};
  const int error = finish(finish_everything());
  while (background_ != 0) file_->wait();
  if (error != 0) return host::error_with_number(error, "The disk image could not be made durable");
  return {};
}

}  // namespace nacre::storage::qcow2
