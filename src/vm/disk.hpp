// StorageDisk: a disk image as a virtio block device sees it. Made with the machine, driven on the device's
// thread.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "storage/image.hpp"
#include "storage/loop.hpp"
#include "storage/open.hpp"
#include "virtio/blk/device.hpp"
#include "vm/rate_limit.hpp"

namespace nacre::vm {

struct DiskConfig {
  std::string path;
  bool read_only = false;
  storage::Format format = storage::Format::Detect;  // by its name then
  RateLimits limits;
};

// How its image is opened.
storage::OpenOptions open_options(const DiskConfig& config);

class StorageDisk final : public virtio::blk::Disk {
 public:
  static Result<std::unique_ptr<StorageDisk>> open(const DiskConfig& config);
  // On a thread that may not open or make anything: with a loop and, for limits, a timerfd made before, which stay the
  // caller's, and the image's files as storage::OpenOptions::given has them.
  static Result<std::unique_ptr<StorageDisk>> adopt(const DiskConfig& config, storage::Loop& loop, int timer,
                                                    std::vector<host::UniqueFd> files);

  static Result<host::UniqueFd> make_timer();

  [[nodiscard]] u64 size() const { return image_->size(); }
  [[nodiscard]] u64 discard_unit() const { return image_->discard_unit(); }
  // Readable while dispatch() has something to complete.
  [[nodiscard]] int event_fd() const { return loop_->event_fd(); }
  // Readable when dispatch() may start what its limits have held back; -1: it has none.
  [[nodiscard]] int timer_fd() const { return timer_; }
  void connect(virtio::blk::Blk& device) { device_ = &device; }
  // The last thing on the device's thread: completes what is under way and makes it durable.
  void close();

  bool submit(virtio::blk::DiskRequest& request) override;
  void abandon() override;
  void dispatch() override {
    if (!held_back_.empty()) start_held_back();
    loop_->dispatch();
  }

 private:
  struct Slot final : storage::Request {
    StorageDisk* disk = nullptr;
    virtio::blk::DiskRequest* asked = nullptr;
    std::array<iovec, virtio::blk::Blk::kSegments> pieces;
    void completed() override;
  };

  StorageDisk(storage::Loop& loop, std::unique_ptr<storage::Image> image, const RateLimits& limits);
  static Result<std::unique_ptr<storage::Image>> open_image(const DiskConfig& config, storage::Loop& loop,
                                                            std::vector<host::UniqueFd>* files);
  void complain(int error);
  bool start(virtio::blk::DiskRequest& request);
  bool may_start(const virtio::blk::DiskRequest& request);
  void start_held_back();

  std::unique_ptr<storage::Loop> own_loop_;
  host::UniqueFd own_timer_;
  storage::Loop* loop_;                    // ours, or lent
  std::unique_ptr<storage::Image> image_;  // before the loop in ending
  int timer_ = -1;                         // a timerfd; none without limits
  RateLimit limit_;
  std::deque<virtio::blk::DiskRequest*> held_back_;  // in the order of their coming
  virtio::blk::Blk* device_ = nullptr;
  bool complained_ = false;
  std::array<Slot, virtio::blk::Blk::kSlots> slots_;
};

}  // namespace nacre::vm
