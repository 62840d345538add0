// Editor: changes the counts of a closed image, for check and resize. Blocks.
#pragma once

#include "storage/qcow2/refcounts.hpp"

namespace nacre::storage::qcow2 {

class Editor final : private PageCache::Cleaner {
 public:
  static Result<std::unique_ptr<Editor>> open(BlockFile& file, const Header& header, const std::string& path);

  // The errno or 0, each of them.
  int set_count(u64 cluster, u64 value) { return finish(counts_.repair_count(cluster, value)); }
  Refcounts::Grant allocate_run(u64 count) { return finish(counts_.allocate_run(count)); }
  int release(u64 first, u64 count) { return finish(counts_.release(first, count)); }
  // Writes what was changed: counts, then the table. Durable afterwards.
  int write() { return finish(clean()); }

 private:
  Editor(BlockFile& file, const Header& header, std::vector<u64> table)
      : file_(file),
        pages_(file, *this, header.geometry.page_size(), 8 * kMiB),
        counts_(file, pages_, header, std::move(table)) {}
  Task<int> clean() override;
  template <typename T>
  T finish(Task<T> task) {
    while (!task.is_done()) file_.wait();
    return std::move(task.result());
  }

  BlockFile& file_;
  PageCache pages_;
  Refcounts counts_;
};

}  // namespace nacre::storage::qcow2
