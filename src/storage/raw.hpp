// Raw: an image that is the disk's bytes and nothing else. Driven from the loop's thread.
#pragma once

#include "storage/image.hpp"

namespace nacre::storage {

class Raw final : public Image {
 public:
  // Whether somebody said that it is raw. A guest could write another format's header on a disk that was only
  // found to be raw, and have files of the host opened as backing files at the next start: that write is
  // refused.
  enum class Said : u8 { ByUser, ByNobody };
  Raw(std::unique_ptr<BlockFile> file, Access access, Said said)
      : Image(access), file_(std::move(file)), size_(file_->size()), said_(said) {}

  bool submit(Request& request) override;
  [[nodiscard]] u64 size() const override { return size_; }
  [[nodiscard]] Format format() const override { return Format::Raw; }
  [[nodiscard]] u64 discard_unit() const override { return kPageSize; }
  Result<Extent> extent_at(u64 offset) override;
  Status close() override;
  void wait() override { file_->wait(); }

 private:
  std::unique_ptr<BlockFile> file_;
  u64 size_;
  Said said_;
};

}  // namespace nacre::storage
