// The file system device's configuration space. Virtio 1.2, 5.11. What is in its requests is FUSE's, and the
// backend's. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::fs {

inline constexpr usize kTagBytes = 36;

struct Config {  // 5.11.4
  u8 tag[kTagBytes] = {};  // UTF-8, padded with zeros
  u32 num_request_queues = 0;
};
static_assert(sizeof(Config) == 40);

// The first bytes of what the device writes for an answer: Linux, include/uapi/linux/fuse.h.
struct AnswerHeader {
  u32 bytes = 0;
  i32 error = 0;
  u64 unique = 0;
};
static_assert(sizeof(AnswerHeader) == 16);

}  // namespace nacre::virtio::fs
