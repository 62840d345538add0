// BlockStore: every translated block, found by where it is and what mode it was made for, and the links
// between blocks. Invalidation works by physical page. When the code cache is full everything is thrown
// away at once: at 24 MiB that is rare, and nothing is then stale. Owned by the vCPU's thread.
#pragma once

#include <array>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/soft/block.hpp"
#include "engine/soft/code_cache.hpp"
#include "engine/soft/translator.hpp"

namespace nacre::soft {

class BlockStore {
 public:
  BlockStore(CodeCache& code, usize reserved_code_bytes);

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

  // Translates and enters a block. Null when there is no room: clear() and try again.
  Block* add(Translator& translator, const TranslationInput& input, u64 physical);
  // The same for Mode::spanning; `bytes` are what both pages have.
  using SpanningBytes = std::array<u8, x86::kMaxInstructionLength>;
  [[nodiscard]] Block* find_spanning(u64 linear, u64 physical, u32 mode, const SpanningBytes& bytes);
  Block* add_spanning(Translator& translator, const TranslationInput& input, u64 physical, const SpanningBytes& bytes);
  // Code that checks R14 against the block's address, then runs it. 0 when there is no room.
  [[nodiscard]] u64 indirect_entry(Block& block, u64 mismatch);

  // Makes the exit lead to the block. `global`: the block's mapping survives an address-space switch.
  void link(ExitIndex exit, Block& to, bool global);
  // Cross-page links lead back to the dispatcher: all, those to non-global pages, or those into one naturally aligned range.
  void suspend_links(bool global_too);
  void suspend_links_to(u64 address, u64 bytes);

  // Drops every block made from this page of guest RAM. True when there was one.
  bool invalidate_page(u64 physical_page);
  // Drops one block; the next one made at its address has no shared checks.
  void ungroup(BlockIndex i);
  void clear();

  [[nodiscard]] u64 code_address(const Block& block) const { return code_.executable(block.code); }
  [[nodiscard]] usize live_cells() const { return live_cells_[0].size() + live_cells_[1].size(); }
  [[nodiscard]] usize block_count() const { return blocks_.size(); }
  [[nodiscard]] usize code_bytes() const { return used_; }
  [[nodiscard]] u64 translated() const { return translated_; }
  [[nodiscard]] u64 cleared() const { return cleared_; }

 private:
  static constexpr usize kBuckets = 1 << 16;
  static usize bucket(u64 linear, u32 mode) {
    return static_cast<usize>(((linear ^ (linear >> 17)) * 0x9e3779b97f4a7c15 >> 40) + mode) & (kBuckets - 1);
  }
  void put_entry_before(Block& block, u64 mismatch);
  void unlink(ExitIndex exit);
  void drop(BlockIndex i);
  void patch_site(const BlockExit& exit, u32 target_code);

  CodeCache& code_;
  usize reserved_;
  usize used_;
  u32 cells_used_ = 0;
  std::vector<BlockIndex> buckets_;
  std::vector<Block> blocks_;
  std::vector<BlockExit> exits_;
  std::vector<InstructionInfo> infos_;
  std::unordered_map<u64, BlockIndex> pages_;
  std::unordered_set<u64> ungrouped_;     // by linear address
  std::unordered_map<BlockIndex, SpanningBytes> spanning_;
  std::vector<ExitIndex> live_cells_[2];  // [0] to non-global pages, [1] to global ones
  u64 translated_ = 0, cleared_ = 0;
};

}  // namespace nacre::soft
