// BlockStore: every translated block, found by where it is and what mode it was made for, and the links
// between blocks. Invalidation works by physical page. When its part of the code cache is full
// everything is thrown away at once, and nothing is then stale. There is one store for the kernel's blocks
// and one for those of user programs; no link leads from one to the other. Owned by the vCPU's thread.
#pragma once

#include <array>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/soft/block.hpp"
#include "engine/soft/block_table.hpp"
#include "engine/soft/code_cache.hpp"
#include "engine/soft/library.hpp"
#include "engine/soft/spaces.hpp"
#include "engine/soft/translator.hpp"

namespace nacre::soft {

class BlockStore {
 public:
  // `library`: where translations come from and go to; null: nowhere.
  BlockStore(CodeCache& code, CodeCache::Part part, Library* library = nullptr);

  [[nodiscard]] Block* find(u64 linear, u64 physical, u32 mode);
  [[nodiscard]] Block& block(BlockIndex i) { return blocks_[i]; }
  [[nodiscard]] const Block& block(BlockIndex i) const { return blocks_[i]; }
  [[nodiscard]] BlockIndex index(const Block& b) const {
    return static_cast<BlockIndex>(&b - blocks_.data());
  }
  [[nodiscard]] BlockExit& exit(ExitIndex i) { return exits_[i]; }
  [[nodiscard]] usize exit_count() const { return exits_.size(); }

  // The block whose code holds this offset of the cache, valid or not; null for stubs and side entries.
  [[nodiscard]] Block* at_code(usize offset);
  // The instruction at a code offset within the block. In most of its cold part, one that is never whole.
  [[nodiscard]] const InstructionInfo* instruction_at(const Block& block, usize offset) const;

  // Translates or copies a block, and enters it. Null when there is no room: clear() and try again.
  Block* add(Translator& translator, const TranslationInput& input, u64 physical);
  // The same for Mode::spanning; `bytes` are what both pages have.
  using SpanningBytes = std::array<u8, x86::kMaxInstructionLength>;
  [[nodiscard]] Block* find_spanning(u64 linear, u64 physical, u32 mode, const SpanningBytes& bytes);
  Block* add_spanning(Translator& translator, const TranslationInput& input, u64 physical,
                      const SpanningBytes& bytes);
  // Code that checks R14 against the block's address, then runs it. 0 when there is no room.
  [[nodiscard]] u64 indirect_entry(Block& block, u64 mismatch);

  // Makes the exit lead to the block.
  void link(ExitIndex exit, Block& to, Lasting lasting);
  // Cross-page links lead back to the dispatcher: those into pages that last no longer than so, or into one
  // naturally aligned range.
  void suspend_links(Lasting longest);
  // Those into pages of the space, to lead there again when the space is back.
  void suspend_links_into(Space& space);
  void take_back_links(const Space& space);
  void suspend_links_to(u64 address, u64 bytes);

  // Drops every block made from this page of guest RAM; of each `dropped` is told before. True when there was
  // one.
  template <typename Dropped>
  bool invalidate_page(u64 physical_page, Dropped dropped) {
    const auto page = pages_.find(physical_page);
    if (page == pages_.end()) return false;
    for (BlockIndex i = page->second; i != kNone; i = blocks_[i].page_next) {
      if (!blocks_[i].valid) continue;
      dropped(static_cast<const Block&>(blocks_[i]));
      drop(i);
    }
    pages_.erase(page);
    return true;
  }
  // Drops one block; the next one made at its address has no shared checks.
  void ungroup(BlockIndex i);
  void clear();

  [[nodiscard]] u64 code_address(const Block& block) const { return code_.executable(block.code); }
  [[nodiscard]] usize live_cells() const {
    usize all = 0;
    for (const auto& list : live_cells_) all += list.size();
    return all;
  }
  [[nodiscard]] usize block_count() const { return blocks_.size(); }
  [[nodiscard]] usize code_first() const { return part_.first; }
  [[nodiscard]] usize code_end() const { return used_; }
  [[nodiscard]] u64 translated() const { return translated_; }
  [[nodiscard]] u64 cleared() const { return cleared_; }

 private:
  void put_entry_before(Block& block, u64 mismatch);
  void unlink(ExitIndex exit);
  void drop(BlockIndex i);
  void patch_site(const BlockExit& exit, u32 target_code);

  const Translation& translate(Translator& translator, const TranslationInput& input, u64 physical);

  CodeCache& code_;
  const CodeCache::Part part_;
  Library* const library_;
  Translation copy_;  // what add() works with, kept for their memory
  std::vector<Fixup> fixups_;
  std::array<u8, kPageSize> page_ = {};
  usize used_;
  u32 cells_used_;
  BlockTable table_;
  std::vector<Block> blocks_;
  std::vector<BlockExit> exits_;
  std::vector<InstructionInfo> infos_;
  std::unordered_map<u64, BlockIndex> pages_;
  std::unordered_set<u64> ungrouped_;  // by linear address
  std::unordered_map<BlockIndex, SpanningBytes> spanning_;
  // Which pages may be meant, of all those added since the last clear().
  class PageFilter {
   public:
    void add(u64 linear) { words_[word(linear)] |= bit(linear); }
    [[nodiscard]] bool may_hold(u64 linear) const { return (words_[word(linear)] & bit(linear)) != 0; }
    void clear() {
      for (u64& w : words_) {
        w = 0;
        __asm__ volatile("" : "+m"(w));  // no call of memset, which may use vector registers
      }
    }

   private:
    static constexpr usize kWords = 64;
    static u64 hash(u64 linear) { return (linear >> kPageShift) * 0x9e3779b97f4a7c15 >> 40; }
    static usize word(u64 linear) { return (hash(linear) >> 6) & (kWords - 1); }
    static u64 bit(u64 linear) { return u64{1} << (hash(linear) & 63); }
    u64 words_[kWords] = {};
  };

  std::vector<ExitIndex> live_cells_[kLastings];
  PageFilter live_pages_[kLastings];  // where they lead
  u64 translated_ = 0, cleared_ = 0;
};

}  // namespace nacre::soft
