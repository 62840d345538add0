#include "storage/uring_loop.hpp"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>

#include "host/error.hpp"

namespace nacre::storage {
namespace {

constexpr unsigned kEntries = 256;
constexpr std::array kOperations = {IORING_OP_READV, IORING_OP_WRITEV, IORING_OP_FSYNC, IORING_OP_FALLOCATE};

void prepare(io_uring_sqe& entry, int file, const Request& request) {
  const auto pieces = static_cast<unsigned>(std::min<usize>(request.buffers.size(), IOV_MAX));
  const auto offset = static_cast<off_t>(request.offset);
  const auto length = static_cast<off_t>(request.length);
  switch (request.kind) {
    case Request::Kind::Read:
      io_uring_prep_readv(&entry, file, request.buffers.data(), pieces, request.offset);
      break;
    case Request::Kind::Write:
      io_uring_prep_writev(&entry, file, request.buffers.data(), pieces, request.offset);
      break;
    case Request::Kind::Flush:
      io_uring_prep_fsync(&entry, file, IORING_FSYNC_DATASYNC);
      break;
    case Request::Kind::Discard:
      io_uring_prep_fallocate(&entry, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
      break;
    case Request::Kind::WriteZeroes:
      io_uring_prep_fallocate(&entry, file,
                              request.space == Request::Space::Release
                                  ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
                                  : FALLOC_FL_ZERO_RANGE,
                              offset, length);
      break;
  }
}

bool has_operations(io_uring& ring) {
  io_uring_probe* probe = io_uring_get_probe_ring(&ring);
  if (probe == nullptr) return false;
  bool all = true;
  for (const io_uring_op needed : kOperations) {
    all = all && io_uring_opcode_supported(probe, needed) != 0;
  }
  io_uring_free_probe(probe);
  return all;
}

// System call filters do not see what a ring does, so the ring itself is made unable to do more than it is
// for.
int restrict_to_operations(io_uring& ring) {
  std::array<io_uring_restriction, kOperations.size()> allowed = {};
  for (usize i = 0; i < allowed.size(); ++i) {
    allowed[i].opcode = IORING_RESTRICTION_SQE_OP;
    allowed[i].sqe_op = static_cast<u8>(kOperations[i]);
  }
  // By system call: Debian 12's liburing declares the two functions for this, and does not export them.
  if (syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_RESTRICTIONS, allowed.data(),
              allowed.size()) != 0 ||
      syscall(__NR_io_uring_register, ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0)
    return -errno;
  return 0;
}

}  // namespace

Result<std::unique_ptr<Loop>> UringLoop::create() {
  std::unique_ptr<UringLoop> loop(new UringLoop);
  const int result =
      io_uring_queue_init(kEntries, &loop->ring_, IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED);
  if (result < 0) return host::error_with_number(-result, "Cannot use io_uring");
  loop->made_ = true;
  if ((loop->ring_.features & IORING_FEAT_NODROP) == 0 || !has_operations(loop->ring_))
    return Error{"This kernel's io_uring is too old."};
  if (const int failed = restrict_to_operations(loop->ring_); failed < 0)
    return host::error_with_number(-failed, "Cannot restrict io_uring");
  return std::unique_ptr<Loop>(std::move(loop));
}

UringLoop::~UringLoop() {
  if (made_) io_uring_queue_exit(&ring_);
}

void UringLoop::start(int file, Request& request) {
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  while (entry == nullptr) {
    io_uring_submit(&ring_);
    entry = io_uring_get_sqe(&ring_);
  }
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<u32>(operations_.size()));
    operations_.emplace_back();
  }
  const u32 slot = free_slots_.back();
  free_slots_.pop_back();
  operations_[slot] = {file, &request};
  prepare(*entry, file, request);
  io_uring_sqe_set_data64(entry, slot);
}

void UringLoop::complete(const io_uring_cqe& entry) {
  const u32 slot = static_cast<u32>(entry.user_data);
  const Operation operation = operations_[slot];
  free_slots_.push_back(slot);
  Request& request = *operation.request;
  const bool transfers = request.kind == Request::Kind::Read || request.kind == Request::Kind::Write;
  const i32 result = entry.res;
  if (transfers) {
    // What is short (the end of the file, a full disk, a signal) is finished the plain way, which finds out
    // why.
    const bool again = result == -EAGAIN || result == -EINTR;
    if (result >= 0 || again) {
      const u64 moved = again ? 0 : static_cast<u64>(result);
      request.error = moved == request.length ? 0 : perform(operation.file, request, moved);
    } else {
      request.error = -result;
    }
  } else if (result < 0 && request.kind != Request::Kind::Flush) {
    request.error = perform(operation.file, request);  // knows what to do where holes are not supported
  } else {
    request.error = -result;
  }
  request.completed();
}

void UringLoop::dispatch() {
  if (io_uring_sq_ready(&ring_) != 0) io_uring_submit(&ring_);
  std::array<io_uring_cqe, 32> batch;  // copied out: completed() may come back here
  for (;;) {
    std::array<io_uring_cqe*, 32> entries;
    const unsigned count = io_uring_peek_batch_cqe(&ring_, entries.data(), entries.size());
    if (count == 0) break;
    for (unsigned i = 0; i < count; ++i) batch[i] = *entries[i];
    io_uring_cq_advance(&ring_, count);
    for (unsigned i = 0; i < count; ++i) complete(batch[i]);
  }
  if (io_uring_sq_ready(&ring_) != 0) io_uring_submit(&ring_);
}

void UringLoop::wait() {
  io_uring_submit_and_wait(&ring_, 1);
  dispatch();
}

}  // namespace nacre::storage
