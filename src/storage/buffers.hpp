// Pieces of scattered memory: what requests read into and write from. Any thread.
#pragma once

#include <vector>

#include "storage/request.hpp"

namespace nacre::storage {

u64 bytes_in(Buffers buffers);

// The part [skip, skip + length) of buffers, as buffers.
std::vector<iovec> slice(Buffers buffers, u64 skip, u64 length);

void fill_zero(Buffers buffers, u64 skip, u64 length);
void copy_into(Buffers buffers, u64 skip, std::span<const u8> bytes);
void copy_out(Buffers buffers, u64 skip, std::span<u8> bytes);

bool is_zero(std::span<const u8> bytes);

inline iovec piece_of(std::span<u8> bytes) {
  return {bytes.data(), bytes.size()};
}
// For writing only: iovec has no const form.
inline iovec piece_of_constant(std::span<const u8> bytes) {
  return {const_cast<u8*>(bytes.data()), bytes.size()};
}

// Memory that is aligned to pages.
class PageBuffer {
 public:
  PageBuffer() = default;
  explicit PageBuffer(usize bytes);  // content: zeros
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&& other) noexcept;
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;
  ~PageBuffer();
  [[nodiscard]] u8* data() const { return data_; }
  [[nodiscard]] usize size() const { return size_; }
  [[nodiscard]] std::span<u8> bytes() const { return {data_, size_}; }

 private:
  u8* data_ = nullptr;
  usize size_ = 0;
};

}  // namespace nacre::storage
