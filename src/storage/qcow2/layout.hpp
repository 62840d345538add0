// How qcow2 lays out a file: docs/interop/qcow2.txt of QEMU, "the specification" below. Numbers are
// big-endian.
//
// A guest address picks an entry of the L1 table, which points to an L2 table of one cluster, whose entry
// points to the data. Beside it, the refcount table points to refcount blocks of one cluster, which count the
// references to each cluster of the file.
#pragma once

#include <bit>
#include <concepts>
#include <cstring>
#include <span>

#include "base/types.hpp"

namespace nacre::storage::qcow2 {

template <std::unsigned_integral T>
T load_big(const u8* from) {
  T value = 0;
  memcpy(&value, from, sizeof value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  return value;
}
template <std::unsigned_integral T>
void store_big(u8* to, T value) {
  for (usize i = sizeof(T); i-- > 0;) {
    to[i] = static_cast<u8>(value);
    if constexpr (sizeof(T) > 1) value = static_cast<T>(value >> 8);
  }
}

inline constexpr u32 kMagic = 0x514649fb;  // "QFI\xfb"
inline constexpr u32 kHeaderV2 = 72, kHeaderV3 = 104;

// Offsets in the header.
struct Field {
  static constexpr u32 magic = 0, version = 4, backing_offset = 8, backing_length = 16, cluster_bits = 20,
                       size = 24, crypt = 32, l1_entries = 36, l1_offset = 40, refcount_table_offset = 48,
                       refcount_table_clusters = 56, snapshots = 60, snapshots_offset = 64, incompatible = 72,
                       compatible = 80, autoclear = 88, refcount_order = 96, header_length = 100,
                       compression = 104;
};

struct Incompatible {
  static constexpr u64 dirty = 1, corrupt = 2, external_data = 4, compression = 8, extended_l2 = 16;
};
struct Compatible {
  static constexpr u64 lazy_refcounts = 1;
};
struct Autoclear {
  static constexpr u64 bitmaps = 1, raw_external = 2;
};
enum class Extension : u32 {
  End = 0,
  BackingFormat = 0xe2792aca,
  FeatureNames = 0x6803f857,
  Bitmaps = 0x23852875,
  Encryption = 0x0537be77,
  ExternalData = 0x44415441,
};
enum class Compression : u8 { Zlib = 0, Zstd = 1 };

// Limits, of QEMU's as far as images that it makes must open here.
inline constexpr u32 kLeastClusterBits = 9, kMostClusterBits = 21;
inline constexpr u64 kMostL1Bytes = 32 * kMiB, kMostRefcountTableBytes = 8 * kMiB;
inline constexpr u32 kMostSnapshots = 65536, kMostBackingName = 1023;
inline constexpr u64 kMostHeaderBytes = 64 * kKiB;  // what is looked at of the first cluster

// Entries of L1 and L2 tables.
inline constexpr u64 kCopied = u64{1} << 63;  // the count of what it points to is exactly one
inline constexpr u64 kCompressed = u64{1} << 62;
inline constexpr u64 kReadsZero = 1;  // version 3
inline constexpr u64 kOffsetMask = 0x00ff'ffff'ffff'fe00;
inline constexpr u64 kL1Reserved = ~(kCopied | kOffsetMask);
inline constexpr u64 kL2Reserved = ~(kCopied | kCompressed | kOffsetMask | kReadsZero);

// The numbers that follow from cluster_bits and refcount_order.
struct Geometry {
  u32 cluster_bits = 16;
  u32 refcount_order = 4;

  [[nodiscard]] u64 cluster_size() const { return u64{1} << cluster_bits; }
  [[nodiscard]] u64 in_cluster(u64 address) const { return address & (cluster_size() - 1); }
  [[nodiscard]] u64 clusters_for(u64 bytes) const { return (bytes + cluster_size() - 1) >> cluster_bits; }
  [[nodiscard]] bool is_aligned(u64 address) const { return in_cluster(address) == 0; }
  [[nodiscard]] u32 l2_bits() const { return cluster_bits - 3; }
  [[nodiscard]] u64 l2_entries() const { return u64{1} << l2_bits(); }
  // One L1 entry covers 2^l1_shift bytes of the guest's disk.
  [[nodiscard]] u32 l1_shift() const { return cluster_bits + l2_bits(); }
  [[nodiscard]] u64 l1_entries_for(u64 bytes) const {
    return (bytes >> l1_shift()) + ((bytes & ((u64{1} << l1_shift()) - 1)) != 0 ? 1 : 0);
  }
  [[nodiscard]] u32 block_bits() const {
    return cluster_bits + 3 - refcount_order;
  }  // entries of a refcount block
  [[nodiscard]] u64 block_entries() const { return u64{1} << block_bits(); }
  [[nodiscard]] u64 most_references() const {
    return refcount_order == 6 ? ~u64{0} : (u64{1} << (u64{1} << refcount_order)) - 1;
  }
  // Metadata is cached in pages of this size.
  [[nodiscard]] u64 page_size() const { return cluster_size() < kPageSize ? cluster_size() : kPageSize; }
};

// Where the bytes of a compressed cluster are: whole sectors, of which the last may not be used to its end.
struct CompressedPlace {
  u64 offset, length;
};
inline CompressedPlace compressed_place(u64 entry, const Geometry& geometry) {
  const u32 shift = 62 - (geometry.cluster_bits - 8);
  const u64 offset = entry & ((u64{1} << shift) - 1);
  const u64 sectors = ((entry & ~(kCopied | kCompressed)) >> shift) + 1;
  return {offset, sectors * 512 - (offset & 511)};
}

// Counts in a refcount block; `index` within `block`. Below a byte, the first entry is in the low bits.
inline u64 read_count(const u8* block, u64 index, u32 order) {
  switch (order) {
    case 3:
      return block[index];
    case 4:
      return load_big<u16>(block + 2 * index);
    case 5:
      return load_big<u32>(block + 4 * index);
    case 6:
      return load_big<u64>(block + 8 * index);
    default: {
      const u32 width = 1u << order;
      const u64 bit = index << order;
      return (block[bit / 8] >> (bit % 8)) & ((1u << width) - 1);
    }
  }
}
inline void write_count(u8* block, u64 index, u32 order, u64 value) {
  switch (order) {
    case 3:
      block[index] = static_cast<u8>(value);
      return;
    case 4:
      return store_big(block + 2 * index, static_cast<u16>(value));
    case 5:
      return store_big(block + 4 * index, static_cast<u32>(value));
    case 6:
      return store_big(block + 8 * index, value);
    default: {
      const u32 width = 1u << order;
      const u64 bit = index << order;
      const u32 mask = ((1u << width) - 1) << (bit % 8);
      const u32 rest = block[bit / 8] & ~mask;
      block[bit / 8] = static_cast<u8>(rest | (static_cast<u32>(value) << (bit % 8) & mask));
    }
  }
}

}  // namespace nacre::storage::qcow2
