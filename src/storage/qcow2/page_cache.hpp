// PageCache: pages of L2 tables or refcount blocks, changed in memory and written by commits. Bounded.
// Driven from the image's I/O thread.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "storage/block_file.hpp"
#include "storage/qcow2/pieces.hpp"

namespace nacre::storage::qcow2 {

class PageCache {
 public:
  struct Page {
    u64 offset;
    u8* bytes;
    bool is_dirty = false;
    bool is_writing = false;  // a commit has a copy that is not in the file yet
    bool is_loading = false;
    Page *newer = nullptr, *older = nullptr;
    PageBuffer memory;
    WaitList loaded;
  };
  // Makes dirty pages clean, when there is no room.
  class Cleaner {
   public:
    virtual Task<int> clean() = 0;

   protected:
    ~Cleaner() = default;
  };

  PageCache(BlockFile& file, Cleaner& cleaner, u64 page_size, u64 most_bytes);
  ~PageCache();

  // The page that holds this byte of the file if it is in memory, else null. Valid until the next co_await.
  Page* find(u64 address);
  // Reads it if needed; 0 or errno. find() gives it then, unless something else ran between.
  Task<int> load(u64 address);
  void mark_dirty(Page& page);
  // [offset, offset + length) has got a new content in the file, or none that matters.
  void forget(u64 offset, u64 length);

  [[nodiscard]] usize dirty_pages() const { return dirty_.size(); }
  [[nodiscard]] bool is_crowded() const { return dirty_.size() * 2 > most_pages_; }

  // Copies of all dirty pages, in order of offset, which are clean then; settle() says how writing them went.
  std::vector<Piece> capture();
  void settle(const std::vector<Piece>& pieces, bool written);

 private:
  // Room for one page; null when every page is in use.
  std::unique_ptr<Page> take_memory(bool beyond_limit);
  void link(Page& page);
  void unlink(Page& page);

  BlockFile& file_;
  Cleaner& cleaner_;
  u64 page_size_;
  usize most_pages_;
  std::unordered_map<u64, std::unique_ptr<Page>> pages_;
  std::vector<Page*> dirty_;
  Page *newest_ = nullptr, *oldest_ = nullptr;
};

}  // namespace nacre::storage::qcow2
