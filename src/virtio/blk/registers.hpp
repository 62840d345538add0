// The block device's features, configuration space and requests. Virtio 1.2, 5.2. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::blk {

struct BlkFeature {  // 5.2.3
  static constexpr u64 seg_max = 1 << 2, read_only = 1 << 5, blk_size = 1 << 6, flush = 1 << 9,
                       topology = 1 << 10, multi_queue = 1 << 12, discard = 1 << 13, write_zeroes = 1 << 14;
};

struct Config {      // 5.2.4
  u64 capacity = 0;  // sectors of 512 bytes, whatever blk_size says
  u32 size_max = 0, seg_max = 0;
  u16 cylinders = 0;
  u8 heads = 0, sectors = 0;
  u32 blk_size = 0;
  u8 physical_block_exponent = 0, alignment_offset = 0;
  u16 min_io_size = 0;
  u32 opt_io_size = 0;
  u8 writeback = 0, unused0 = 0;
  u16 num_queues = 0;
  u32 max_discard_sectors = 0, max_discard_seg = 0, discard_sector_alignment = 0;
  u32 max_write_zeroes_sectors = 0, max_write_zeroes_seg = 0;
  u8 write_zeroes_may_unmap = 0, unused1[3] = {};
  u32 end = 0;  // not the device's: rounds the structure up
};
static_assert(sizeof(Config) == 64 && __builtin_offsetof(Config, blk_size) == 20 &&
              __builtin_offsetof(Config, num_queues) == 34 &&
              __builtin_offsetof(Config, write_zeroes_may_unmap) == 56);

enum class RequestType : u32 {
  In = 0,
  Out = 1,
  Flush = 4,
  GetId = 8,
  Discard = 11,
  WriteZeroes = 13
};  // 5.2.6

struct RequestHeader {
  u32 type = 0, reserved = 0;
  u64 sector = 0;
};
static_assert(sizeof(RequestHeader) == 16);

struct RangeSegment {  // of discard and write zeroes
  u64 sector = 0;
  u32 count = 0, flags = 0;
  static constexpr u32 unmap = 1;
};
static_assert(sizeof(RangeSegment) == 16);

enum class RequestStatus : u8 { Ok = 0, IoError = 1, Unsupported = 2 };

inline constexpr u32 kSectorShift = 9;
inline constexpr u32 kSectorBytes = 1 << kSectorShift;
inline constexpr usize kIdBytes = 20;

}  // namespace nacre::virtio::blk
