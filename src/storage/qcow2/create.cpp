#include "storage/qcow2/create.hpp"

#include <algorithm>

#include "host/error.hpp"
#include "storage/qcow2/editor.hpp"
#include "storage/qcow2/snapshots.hpp"

namespace nacre::storage::qcow2 {
namespace {

Error impossible(const char* why) {
  return Error("A qcow2 image cannot be made so: ").append(why).append(".");
}

Status check_wanted(const NewImage& wanted) {
  if (wanted.version != 2 && wanted.version != 3) return impossible("its version is 2 or 3");
  if (wanted.cluster_bits < kLeastClusterBits || wanted.cluster_bits > kMostClusterBits)
    return impossible("clusters have 512 bytes to 2 MiB, a power of two");
  if (wanted.refcount_order > 6) return impossible("refcounts have 1 to 64 bits, a power of two");
  if (wanted.version == 2 &&
      (wanted.refcount_order != 4 || wanted.lazy_refcounts || wanted.compression != Compression::Zlib))
    return impossible("version 2 has 16-bit refcounts, not lazy, and zlib");
  if (wanted.backing_name.size() > kMostBackingName)
    return impossible("the name of the backing file is too long");
  if (wanted.cluster_bits == kLeastClusterBits && wanted.backing_name.size() > 300)
    return impossible("the name of the backing file does not fit a cluster of 512 bytes");
  return {};
}

}  // namespace

// Header, refcount table, refcount blocks, L1 table: in this order, each counted.
Status format_file(BlockFile& file, const NewImage& wanted, const std::string& path) {
  TRY(check_wanted(wanted));
  Header header;
  header.version = wanted.version;
  header.geometry = {wanted.cluster_bits, wanted.refcount_order};
  const Geometry& geometry = header.geometry;
  header.size = wanted.size;
  header.length = wanted.version == 2 ? kHeaderV2 : kHeaderV3 + 8;
  header.compression = wanted.compression;
  if (wanted.compression != Compression::Zlib) header.incompatible = Incompatible::compression;
  if (wanted.lazy_refcounts) header.compatible = Compatible::lazy_refcounts;
  header.backing_name = wanted.backing_name;
  header.backing_format = wanted.backing_format;

  const u64 l1_entries = std::max<u64>(geometry.l1_entries_for(wanted.size), 1);
  if (l1_entries * 8 > kMostL1Bytes) return impossible("the disk is too large for clusters of this size");
  const u64 l1_clusters = geometry.clusters_for(l1_entries * 8);
  u64 table_clusters = 1, blocks = 1, total = 0;
  for (;;) {
    total = 1 + table_clusters + blocks + l1_clusters;
    const u64 need = (total + geometry.block_entries() - 1) >> geometry.block_bits();
    const u64 need_table = geometry.clusters_for(need * 8);
    if (need <= blocks && need_table <= table_clusters) break;
    blocks = std::max(blocks, need);
    table_clusters = std::max(table_clusters, need_table);
  }
  const u64 cluster = geometry.cluster_size();
  header.refcount_table_offset = cluster;
  header.refcount_table_clusters = static_cast<u32>(table_clusters);
  const u64 blocks_offset = (1 + table_clusters) * cluster;
  header.l1_offset = blocks_offset + blocks * cluster;
  header.l1_entries = static_cast<u32>(l1_entries);

  std::vector<u8> table(table_clusters * cluster);
  for (u64 i = 0; i < blocks; ++i) store_big(&table[i * 8], blocks_offset + i * cluster);
  int error = file.resize(total * cluster);
  if (error == 0) error = write_now(file, cluster, table);
  std::vector<u8> block(cluster);
  for (u64 i = 0; i < blocks && error == 0; ++i) {
    std::fill(block.begin(), block.end(), u8{0});
    for (u64 j = 0; j < geometry.block_entries() && i * geometry.block_entries() + j < total; ++j)
      write_count(block.data(), j, geometry.refcount_order, 1);
    error = write_now(file, blocks_offset + i * cluster, block);
  }
  // Last: before it, the file is not an image.
  if (error == 0) error = flush_now(file);
  if (error == 0) error = write_now(file, 0, make_header(header));
  if (error == 0) error = flush_now(file);
  if (error != 0) return host::error_with_number(error, "Cannot write the image", path.c_str());
  return {};
}

// The new L1 table is written where nothing refers to, then the header is pointed to it in one sector.
Status grow(BlockFile& file, u64 size, const std::string& path) {
  const Header header = TRY(read_header(file, path));
  const Geometry& geometry = header.geometry;
  if (header.is_dirty() || header.is_corrupt())
    return Error("The image ").append(path.c_str()).append(" is damaged; nacre disk check says more.");
  if (size < header.size)
    return Error("The disk in ")
        .append(path.c_str())
        .append(" would lose its end: Nacre makes disks larger only.");
  if (header.version == 2 && header.snapshots != 0)
    return Error("The image ")
        .append(path.c_str())
        .append(" is of version 2 and has snapshots: its size cannot change.");
  const u64 entries = std::max<u64>(geometry.l1_entries_for(size), 1);
  if (entries * 8 > kMostL1Bytes) return impossible("the disk is too large for clusters of this size");

  const auto failed = [&](int error) {
    return host::error_with_number(error, "Cannot resize the image", path.c_str());
  };
  u64 l1_offset = header.l1_offset;
  u64 l1_entries = header.l1_entries;
  std::unique_ptr<Editor> editor;
  if (entries > l1_entries) {
    editor = TRY(Editor::open(file, header, path));
    auto table =
        TRY(read_table(file, header.l1_offset, header.l1_entries, "Cannot read the L1 table of", path));
    const Refcounts::Grant grant = editor->allocate_run(geometry.clusters_for(entries * 8));
    if (grant.error != 0) return failed(grant.error);
    l1_offset = grant.first << geometry.cluster_bits;
    l1_entries = entries;
    std::vector<u8> bytes(grant.count << geometry.cluster_bits);
    for (usize i = 0; i < table.size(); ++i) store_big(&bytes[i * 8], table[i]);
    if (const int error = write_now(file, l1_offset, bytes); error != 0) return failed(error);
    if (const int error = editor->write(); error != 0) return failed(error);
  }
  u8 fields[24] = {};  // size, no encryption, L1's length, its place
  store_big(fields, size);
  store_big(fields + 12, static_cast<u32>(l1_entries));
  store_big(fields + 16, l1_offset);
  int error = write_now(file, Field::size, fields);
  if (error == 0) error = flush_now(file);
  if (error == 0 && editor && header.l1_entries != 0) {
    error = editor->release(header.l1_offset >> geometry.cluster_bits,
                            geometry.clusters_for(u64{header.l1_entries} * 8));
    if (error == 0) error = editor->write();
  }
  return error == 0 ? Status{} : failed(error);
}

}  // namespace nacre::storage::qcow2
