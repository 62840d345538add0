#include "storage/buffers.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.hpp"

namespace nacre::storage {
namespace {

// Calls step(memory, length) for each piece of [skip, skip + length).
template <typename Step>
void for_each_piece(Buffers buffers, u64 skip, u64 length, Step step) {
  for (const iovec& piece : buffers) {
    if (length == 0) return;
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const u64 part = std::min<u64>(piece.iov_len - skip, length);
    step(static_cast<u8*>(piece.iov_base) + skip, part);
    skip = 0;
    length -= part;
  }
}

}  // namespace

u64 bytes_in(Buffers buffers) {
  u64 sum = 0;
  for (const iovec& piece : buffers) sum += piece.iov_len;
  return sum;
}

std::vector<iovec> slice(Buffers buffers, u64 skip, u64 length) {
  std::vector<iovec> result;
  for_each_piece(buffers, skip, length, [&](u8* memory, u64 part) { result.push_back({memory, part}); });
  return result;
}

void fill_zero(Buffers buffers, u64 skip, u64 length) {
  for_each_piece(buffers, skip, length, [](u8* memory, u64 part) { memset(memory, 0, part); });
}

void copy_into(Buffers buffers, u64 skip, std::span<const u8> bytes) {
  const u8* from = bytes.data();
  for_each_piece(buffers, skip, bytes.size(), [&](u8* memory, u64 part) {
    memcpy(memory, from, part);
    from += part;
  });
}

void copy_out(Buffers buffers, u64 skip, std::span<u8> bytes) {
  u8* to = bytes.data();
  for_each_piece(buffers, skip, bytes.size(), [&](const u8* memory, u64 part) {
    memcpy(to, memory, part);
    to += part;
  });
}

bool is_zero(std::span<const u8> bytes) {
  if (bytes.empty()) return true;
  return bytes.front() == 0 && memcmp(bytes.data(), bytes.data() + 1, bytes.size() - 1) == 0;
}

PageBuffer::PageBuffer(usize bytes) : size_(bytes) {
  if (bytes == 0) return;
  const usize whole = (bytes + kPageSize - 1) & ~(kPageSize - 1);
  data_ = static_cast<u8*>(std::aligned_alloc(kPageSize, whole));
  NACRE_CHECK(data_ != nullptr);  // as operator new: this process does not run on without memory
  memset(data_, 0, whole);
}

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PageBuffer& PageBuffer::operator=(PageBuffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

PageBuffer::~PageBuffer() {
  std::free(data_);
}

}  // namespace nacre::storage
