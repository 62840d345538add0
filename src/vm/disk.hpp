// StorageDisk: a disk image as a virtio block device sees it. Made with the machine, driven on the device's
// thread.
#pragma once

#include <array>
#include <memory>
#include <string>

#include "storage/image.hpp"
#include "storage/loop.hpp"
#include "virtio/blk/device.hpp"

namespace nacre::vm {

struct DiskConfig {
  std::string path;
  bool read_only = false;
  storage::Format format = storage::Format::Detect;  // by its name then
};

class StorageDisk final : public virtio::blk::Disk {
 public:
  static Result<std::unique_ptr<StorageDisk>> open(const DiskConfig& config);

  [[nodiscard]] u64 size() const { return image_->size(); }
  [[nodiscard]] u64 discard_unit() const { return image_->discard_unit(); }
  // Readable while dispatch() has something to complete.
  [[nodiscard]] int event_fd() const { return loop_->event_fd(); }
  void connect(virtio::blk::Blk& device) { device_ = &device; }
  // The last thing on the device's thread: completes what is under way and makes it durable.
  void close();

  bool submit(virtio::blk::DiskRequest& request) override;
  void dispatch() override { loop_->dispatch(); }

 private:
  struct Slot final : storage::Request {
    StorageDisk* disk = nullptr;
    virtio::blk::DiskRequest* asked = nullptr;
    std::array<iovec, virtio::blk::Blk::kSegments> pieces;
    void completed() override;
  };

  StorageDisk(std::unique_ptr<storage::Loop> loop, std::unique_ptr<storage::Image> image);
  void complain(int error);

  std::unique_ptr<storage::Loop> loop_;
  std::unique_ptr<storage::Image> image_;  // before the loop in ending
  virtio::blk::Blk* device_ = nullptr;
  bool complained_ = false;
  std::array<Slot, virtio::blk::Blk::kSlots> slots_;
};

}  // namespace nacre::vm
