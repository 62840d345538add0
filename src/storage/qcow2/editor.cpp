#include "storage/qcow2/editor.hpp"

#include "storage/qcow2/snapshots.hpp"

namespace nacre::storage::qcow2 {

Result<std::unique_ptr<Editor>> Editor::open(BlockFile& file, const Header& header, const std::string& path) {
  const u64 entries = u64{header.refcount_table_clusters} << header.geometry.cluster_bits >> 3;
  auto table =
      TRY(read_table(file, header.refcount_table_offset, entries, "Cannot read the refcount table of", path));
  for (const u64 block : table) {
    if (!header.geometry.is_aligned(block) || block >= file.size())
      return Error("The refcount table of ").append(path.c_str()).append(" is damaged; nothing was changed.");
  }
  return std::unique_ptr<Editor>(new Editor(file, header, std::move(table)));
}

Task<int> Editor::clean() {
  const std::vector<Piece> counts = pages_.capture();
  const Refcounts::TableChange table = counts_.capture_table();
  int error = co_await write_all(&file_, &counts);
  if (error == 0 && table.is_moved) error = co_await write_all(&file_, &table.pieces);
  if (error == 0) error = co_await Io(file_, Request::Kind::Flush, 0, 0);
  if (error == 0 && !table.pieces.empty()) {
    error = co_await write_table_change(&file_, &table);
    if (error == 0) error = co_await Io(file_, Request::Kind::Flush, 0, 0);
  }
  pages_.settle(counts, error == 0);
  counts_.settle_table(table, error == 0);
  co_return error;
}

}  // namespace nacre::storage::qcow2
