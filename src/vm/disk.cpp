#include "vm/disk.hpp"

#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>

#include "host/error.hpp"
#include "vm/line.hpp"

namespace nacre::vm {

using virtio::blk::DiskRequest;

namespace {

u64 now() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<u64>(time.tv_sec) * RateLimit::kSecond + static_cast<u64>(time.tv_nsec);
}

}  // namespace

StorageDisk::StorageDisk(storage::Loop& loop, std::unique_ptr<storage::Image> image, const RateLimits& limits)
    : loop_(&loop), image_(std::move(image)), limit_(limits) {
  for (Slot& slot : slots_) slot.disk = this;
}

Result<std::unique_ptr<storage::Image>> StorageDisk::open_image(const DiskConfig& config, storage::Loop& loop,
                                                                std::vector<host::UniqueFd>* files) {
  storage::OpenOptions options = open_options(config);
  options.given = files;
  auto image = TRY(storage::open_image(loop, config.path, options));
  if (image->size() < virtio::blk::kSectorBytes) {
    return Error("The disk image ")
        .append(config.path.c_str())
        .append(" is too small: a disk has at least 512 bytes.");
  }
  return image;
}

storage::OpenOptions open_options(const DiskConfig& config) {
  storage::OpenOptions options;
  options.access = config.read_only ? storage::Access::ReadOnly : storage::Access::ReadWrite;
  options.format = config.format;
  options.unsaid = storage::Unsaid::ByName;
  return options;
}

Result<std::unique_ptr<StorageDisk>> StorageDisk::open(const DiskConfig& config) {
  auto loop = TRY(storage::Loop::create());
  auto image = TRY(open_image(config, *loop, nullptr));
  std::unique_ptr<StorageDisk> disk(new StorageDisk(*loop, std::move(image), config.limits));
  disk->own_loop_ = std::move(loop);
  if (config.limits.any()) {
    disk->own_timer_ = TRY(make_timer());
    disk->timer_ = disk->own_timer_.number();
  }
  return disk;
}

Result<std::unique_ptr<StorageDisk>> StorageDisk::adopt(const DiskConfig& config, storage::Loop& loop, int timer,
                                                        std::vector<host::UniqueFd> files) {
  auto image = TRY(open_image(config, loop, &files));
  std::unique_ptr<StorageDisk> disk(new StorageDisk(loop, std::move(image), config.limits));
  if (config.limits.any()) disk->timer_ = timer;
  return disk;
}

Result<host::UniqueFd> StorageDisk::make_timer() {
  host::UniqueFd timer(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  if (!timer) return host::errno_error("Cannot make a timer for a disk's limits");
  return timer;
}

bool StorageDisk::submit(DiskRequest& request) {
  if (timer_ >= 0 && (!held_back_.empty() || !may_start(request))) {
    held_back_.push_back(&request);
    return false;
  }
  return start(request);
}

// Takes what the request needs of the limits, or sets the timer for when it can be had.
bool StorageDisk::may_start(const DiskRequest& request) {
  const u64 instant = now();
  const u64 wait = limit_.wait(instant);
  if (wait != 0) {
    itimerspec at = {};
    at.it_value.tv_sec = static_cast<time_t>((instant + wait) / RateLimit::kSecond);
    at.it_value.tv_nsec = static_cast<long>((instant + wait) % RateLimit::kSecond);
    timerfd_settime(timer_, TFD_TIMER_ABSTIME, &at, nullptr);
    return false;
  }
  const bool moves = request.kind == DiskRequest::Kind::Read || request.kind == DiskRequest::Kind::Write;
  limit_.take(instant, moves ? request.bytes : 0);
  return true;
}

void StorageDisk::start_held_back() {
  u64 fired = 0;
  static_cast<void>(!read(timer_, &fired, sizeof fired));
  while (!held_back_.empty() && may_start(*held_back_.front())) {
    DiskRequest& request = *held_back_.front();
    held_back_.pop_front();
    if (start(request)) device_->completed(request);
  }
}

// A limit may be so low that a guest which is restarted would have to wait for hours.
void StorageDisk::abandon() {
  while (!held_back_.empty()) {
    DiskRequest& request = *held_back_.front();
    held_back_.pop_front();
    request.failed = true;
    device_->completed(request);
  }
}

bool StorageDisk::start(DiskRequest& request) {
  Slot& slot = slots_[request.slot];
  slot.asked = &request;
  switch (request.kind) {
    case DiskRequest::Kind::Read:
      slot.kind = storage::Request::Kind::Read;
      break;
    case DiskRequest::Kind::Write:
      slot.kind = storage::Request::Kind::Write;
      break;
    case DiskRequest::Kind::Flush:
      slot.kind = storage::Request::Kind::Flush;
      break;
    case DiskRequest::Kind::Discard:
      slot.kind = storage::Request::Kind::Discard;
      break;
    case DiskRequest::Kind::WriteZeroes:
      slot.kind = storage::Request::Kind::WriteZeroes;
      break;
  }
  slot.space = request.may_unmap ? storage::Request::Space::Release : storage::Request::Space::Keep;
  slot.error = 0;
  slot.offset = request.offset;
  slot.length = request.bytes;
  for (unsigned i = 0; i < request.segment_count; ++i) {
    slot.pieces[i] = {request.segments[i].host, request.segments[i].bytes};
  }
  slot.buffers = {slot.pieces.data(), request.segment_count};
  if (!image_->submit(slot)) return false;
  request.failed = slot.error != 0;
  if (request.failed) complain(slot.error);
  return true;
}

void StorageDisk::Slot::completed() {
  asked->failed = error != 0;
  if (error != 0) disk->complain(error);
  disk->device_->completed(*asked);
}

// The guest sees an I/O error; the user should hear of the reason, once.
void StorageDisk::complain(int error) {
  if (complained_) return;
  complained_ = true;
  if (error == EPERM) {
    Line()
        .text(
            "nacre: The guest may not write what would make its raw disk look like a qcow2 image, as nobody "
            "has "
            "said that the disk is raw (format=raw); it was given an I/O error.")
        .write_to(2);
    return;
  }
  Line line;
  line.text("nacre: A disk image cannot be read or written: ").text(strerror(error));
  line.text("; the guest was given an I/O error.").write_to(2);
}

void StorageDisk::close() {
  while (!held_back_.empty()) {
    DiskRequest& request = *held_back_.front();
    held_back_.pop_front();
    if (start(request)) device_->completed(request);
  }
  while (device_->under_way() != 0) image_->wait();
  if (const Status status = image_->close(); !status)
    Line().text("nacre: ").text(status.error().message()).write_to(2);
}

}  // namespace nacre::vm
