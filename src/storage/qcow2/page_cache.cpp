#include "storage/qcow2/page_cache.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.hpp"

namespace nacre::storage::qcow2 {

PageCache::PageCache(BlockFile& file, Cleaner& cleaner, u64 page_size, u64 most_bytes)
    : file_(file),
      cleaner_(cleaner),
      page_size_(page_size),
      most_pages_(std::max<u64>(most_bytes / page_size, 16)) {}

PageCache::~PageCache() = default;

void PageCache::link(Page& page) {
  page.older = newest_;
  page.newer = nullptr;
  (newest_ != nullptr ? newest_->newer : oldest_) = &page;
  newest_ = &page;
}

void PageCache::unlink(Page& page) {
  (page.newer != nullptr ? page.newer->older : newest_) = page.older;
  (page.older != nullptr ? page.older->newer : oldest_) = page.newer;
}

PageCache::Page* PageCache::find(u64 address) {
  const auto found = pages_.find(address & ~(page_size_ - 1));
  if (found == pages_.end() || found->second->is_loading) return nullptr;
  Page& page = *found->second;
  if (newest_ != &page) {
    unlink(page);
    link(page);
  }
  return &page;
}

std::unique_ptr<PageCache::Page> PageCache::take_memory(bool beyond_limit) {
  if (pages_.size() >= most_pages_) {
    for (Page* page = oldest_; page != nullptr; page = page->newer) {
      if (page->is_dirty || page->is_writing || page->is_loading) continue;
      unlink(*page);
      const auto found = pages_.find(page->offset);
      std::unique_ptr<Page> taken = std::move(found->second);
      pages_.erase(found);
      return taken;
    }
    if (!beyond_limit || pages_.size() >= 2 * most_pages_) return nullptr;
  }
  auto page = std::make_unique<Page>();
  page->memory = PageBuffer(page_size_);
  page->bytes = page->memory.data();
  return page;
}

Task<int> PageCache::load(u64 address) {
  const u64 offset = address & ~(page_size_ - 1);
  for (;;) {
    const auto found = pages_.find(offset);
    if (found != pages_.end()) {
      if (!found->second->is_loading) co_return 0;
      co_await found->second->loaded.wait();
      continue;
    }
    auto room = take_memory(false);
    if (!room) {
      const int error = co_await cleaner_.clean();
      // With a full disk nothing becomes clean; reading must go on nevertheless.
      if (error != 0 && pages_.find(offset) == pages_.end()) {
        room = take_memory(true);
        if (!room) co_return error;
      }
      if (!room) continue;
    }
    Page& page = *room;
    page.offset = offset;
    page.is_loading = true;
    link(page);
    pages_.emplace(offset, std::move(room));
    const iovec memory = {page.bytes, page_size_};
    const int error = co_await Io(file_, Request::Kind::Read, offset, page_size_, {&memory, 1});
    page.is_loading = false;
    WaitList waiting = std::exchange(page.loaded, {});
    if (error != 0) {
      unlink(page);
      pages_.erase(offset);
    }
    // They may take this page's memory for another one: the caller looks for its page again.
    waiting.wake_all();
    if (error != 0) co_return error;
  }
}

void PageCache::mark_dirty(Page& page) {
  if (page.is_dirty) return;
  page.is_dirty = true;
  dirty_.push_back(&page);
}

void PageCache::forget(u64 offset, u64 length) {
  for (u64 at = offset; at < offset + length; at += page_size_) {
    const auto found = pages_.find(at);
    if (found == pages_.end()) continue;
    Page& page = *found->second;
    if (page.is_loading || page.is_writing) continue;  // of a damaged image only: what is freed is not in use
    if (page.is_dirty) std::erase(dirty_, &page);
    unlink(page);
    pages_.erase(found);
  }
}

std::vector<Piece> PageCache::capture() {
  std::sort(dirty_.begin(), dirty_.end(), [](const Page* a, const Page* b) { return a->offset < b->offset; });
  std::vector<Piece> pieces;
  pieces.reserve(dirty_.size());
  for (Page* page : dirty_) {
    page->is_dirty = false;
    page->is_writing = true;
    pieces.push_back({page->offset, PageBuffer(page_size_)});
    memcpy(pieces.back().bytes.data(), page->bytes, page_size_);
  }
  dirty_.clear();
  return pieces;
}

void PageCache::settle(const std::vector<Piece>& pieces, bool written) {
  for (const Piece& piece : pieces) {
    const auto found = pages_.find(piece.offset);
    NACRE_CHECK(found != pages_.end());
    found->second->is_writing = false;
    if (!written) mark_dirty(*found->second);
  }
}

}  // namespace nacre::storage::qcow2
