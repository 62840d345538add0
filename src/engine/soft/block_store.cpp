#include "engine/soft/block_store.hpp"

#include <algorithm>
#include <cstring>

namespace nacre::soft {

namespace {
constexpr usize kLargestBlock = 48 * 1024;
}

BlockStore::BlockStore(CodeCache& code, CodeCache::Part part, Library* library)
    : code_(code), part_(part), library_(library), used_(part.first), cells_used_(part.first_cell) {
  // Never grow afterwards: growing would use vector registers, which may hold the guest's values.
  for (auto& list : live_cells_) list.reserve(part.end_cell - part.first_cell);
}

Block* BlockStore::find(u64 linear, u64 physical, u32 mode) {
  const BlockIndex found = table_.find(linear, physical, mode, [&](BlockIndex i) {
    const Block& b = blocks_[i];
    return b.linear == linear && b.physical == physical && b.mode == mode;
  });
  return found == kNone ? nullptr : &blocks_[found];
}

Block* BlockStore::at_code(usize offset) {
  // Blocks are made in the order of their code.
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), offset,
                                      [](usize at, const Block& b) { return at < b.code; });
  if (after == blocks_.begin()) return nullptr;
  Block& b = *(after - 1);
  return offset < b.code + b.total_bytes ? &b : nullptr;
}

const InstructionInfo* BlockStore::instruction_at(const Block& b, usize offset) const {
  const usize within = offset - b.code;
  const InstructionInfo* first = infos_.data() + b.first_instruction;
  const InstructionInfo* last = first + b.instructions;
  const InstructionInfo* after = std::upper_bound(
      first, last, within, [](usize at, const InstructionInfo& info) { return at < info.start; });
  return after == first ? nullptr : after - 1;
}

Block* BlockStore::add(Translator& translator, const TranslationInput& input, u64 physical) {
  if (used_ + kLargestBlock > part_.end || cells_used_ + 64 > part_.end_cell || table_.full()) return nullptr;
  constexpr usize kEntryRoom = 32;
  used_ = (used_ + (input.mismatch != 0 ? kEntryRoom : 0) + 15) & ~usize{15};
  TranslationInput numbered = input;
  numbered.first_exit = static_cast<ExitIndex>(exits_.size());
  numbered.first_cell = cells_used_;
  numbered.first_cell_address = reinterpret_cast<u64>(code_.cells() + cells_used_);
  numbered.grouping = (input.mode & Mode::key_only) == 0 && !ungrouped_.contains(input.linear);
  const Translation& made = translate(translator, numbered, physical);
  cells_used_ += made.cells;

  const BlockIndex number = static_cast<BlockIndex>(blocks_.size());
  Block b;
  b.linear = input.linear;
  b.physical = physical;
  b.mode = input.mode;
  b.code = static_cast<u32>(used_);
  b.hot_bytes = static_cast<u16>(made.hot_bytes);
  b.total_bytes = static_cast<u16>(made.bytes);
  b.first_instruction = static_cast<u32>(infos_.size());
  b.instructions = static_cast<u16>(made.infos.size());
  b.guest_bytes = static_cast<u16>(made.guest_bytes);
  b.valid = true;
  if (input.mismatch != 0) put_entry_before(b, input.mismatch);
  infos_.insert(infos_.end(), made.infos.begin(), made.infos.end());
  for (const PlannedExit& planned : made.exits) {
    BlockExit e;
    e.target = planned.target;
    e.from = number;
    e.is_cell = planned.is_cell;
    e.lead = planned.lead;
    e.stub = b.code + planned.stub;
    e.site = planned.is_cell ? planned.cell : b.code + planned.site;
    if (e.is_cell) code_.cells()[e.site] = code_.executable(e.stub);
    exits_.push_back(e);
  }
  table_.enter(b.linear, b.physical, b.mode, number);
  const auto [page, fresh] = pages_.try_emplace(physical & ~u64{kPageSize - 1}, kNone);
  b.page_next = page->second;
  page->second = number;
  used_ += b.total_bytes;
  translated_++;
  blocks_.push_back(b);
  return &blocks_.back();
}

// The block's code where the store ends.
const Translation& BlockStore::translate(Translator& translator, const TranslationInput& input,
                                         u64 physical) {
  const Place place = {code_.writable(used_), used_, code_.executable(used_)};
  // What spans pages is known by more than one physical address; what must not be grouped, by its history.
  const bool shared = library_ != nullptr && (input.mode & Mode::spanning) == 0 &&
                      input.grouping == ((input.mode & Mode::key_only) == 0);
  if (shared && library_->copy(input, physical, place, copy_)) return copy_;
  fixups_.clear();
  Emitter emitter(place.writable, place.executable, kLargestBlock, shared ? &fixups_ : nullptr);
  TranslationInput stable = input;
  if (shared) {
    // Another processor may write there meanwhile. This block is dropped then, but what is kept must be of
    // the bytes that it says: of no mixture.
    const u64 offset = input.linear & (kPageSize - 1);
    std::memcpy(page_.data(), input.bytes - offset, kPageSize);
    stable.bytes = page_.data() + offset;
  }
  NACRE_CHECK(translator.translate(stable, emitter));
  const Translation& made = translator.translation();
  if (shared) library_->keep(stable, physical, place, made, fixups_, emitter.tied());
  return made;
}

Block* BlockStore::find_spanning(u64 linear, u64 physical, u32 mode, const SpanningBytes& bytes) {
  Block* known = find(linear, physical, mode);
  if (known == nullptr || spanning_[index(*known)] == bytes) return known;
  // The first page, which it is not listed under, has changed.
  drop(index(*known));
  return nullptr;
}

Block* BlockStore::add_spanning(Translator& translator, const TranslationInput& input, u64 physical,
                                const SpanningBytes& bytes) {
  Block* made = add(translator, input, physical);
  if (made != nullptr) spanning_[index(*made)] = bytes;
  return made;
}

// The check of an indirect jump's target, right before the block that it falls into.
void BlockStore::put_entry_before(Block& b, u64 mismatch) {
  usize bytes = 0;
  for (int attempt = 0; attempt < 2; attempt++) {
    // First to see how long it is.
    Emitter emitter(code_.writable(b.code - bytes), code_.executable(b.code - bytes), bytes);
    u8 probe[64];
    Emitter measure(probe, code_.executable(b.code), sizeof probe);
    Emitter& to = attempt == 0 ? measure : emitter;
    Translator::verify_target(to, b.linear, mismatch);
    NACRE_CHECK(!to.overflowed());
    bytes = to.size();
  }
  b.indirect_entry = b.code - static_cast<u32>(bytes);
}

u64 BlockStore::indirect_entry(Block& b, u64 mismatch) {
  if (b.indirect_entry == 0) {
    constexpr usize kRoom = 96;
    if (used_ + kRoom > part_.end) return 0;
    Emitter emitter(code_.writable(used_), code_.executable(used_), kRoom);
    Translator::verify_target(emitter, b.linear, mismatch);
    emitter.jmp_to(code_address(b));
    NACRE_CHECK(!emitter.overflowed());
    b.indirect_entry = static_cast<u32>(used_);
    used_ += emitter.size();
  }
  return code_.executable(b.indirect_entry);
}

void BlockStore::patch_site(const BlockExit& e, u32 target_code) {
  if (e.is_cell) {
    code_.cells()[e.site] = code_.executable(target_code);
    return;
  }
  const u32 distance = target_code - (e.site + 4);
  std::memcpy(code_.writable(e.site), &distance, sizeof distance);
}

void BlockStore::unlink(ExitIndex number) {
  BlockExit& e = exits_[number];
  patch_site(e, e.stub);
  e.to = kNone;
}

void BlockStore::link(ExitIndex number, Block& to, Lasting lasting) {
  BlockExit& e = exits_[number];
  const BlockIndex target = index(to);
  if (e.to != target) {
    if (e.to != kNone) {
      // A suspended link that now leads elsewhere: take it off the old target's list.
      ExitIndex* at = &blocks_[e.to].incoming;
      while (*at != number) at = &exits_[*at].next_incoming;
      *at = e.next_incoming;
    }
    e.to = target;
    e.next_incoming = to.incoming;
    to.incoming = number;
  }
  patch_site(e, to.code);
  const usize kind = static_cast<usize>(lasting);
  const u8 listed = static_cast<u8>(1u << kind);
  // Once: a target that is dropped and made again leaves the cell on its list.
  if (e.is_cell && (e.listed & listed) == 0) {
    e.listed = static_cast<u8>(e.listed | listed);
    live_cells_[kind].push_back(number);
    live_pages_[kind].add(e.target);
  }
}

void BlockStore::suspend_links(Lasting longest) {
  for (usize kind = 0; kind <= static_cast<usize>(longest); kind++) {
    for (const ExitIndex number : live_cells_[kind]) {
      patch_site(exits_[number], exits_[number].stub);
      exits_[number].listed = static_cast<u8>(exits_[number].listed & ~(1u << kind));
    }
    live_cells_[kind].clear();
    live_pages_[kind].clear();
  }
}

void BlockStore::suspend_links_into(Space& space) {
  for (const ExitIndex number : live_cells_[0]) {
    if (space.links.size() == Space::kMostLinks) break;
    // Dropped blocks have unlinked what led to them.
    if (exits_[number].to != kNone) space.links.push_back({number, exits_[number].to});
  }
  space.links_age = cleared_;
  suspend_links(Lasting::Space);
}

void BlockStore::take_back_links(const Space& space) {
  if (space.links_age != cleared_) return;
  for (const Space::Link& saved : space.links) {
    if (blocks_[saved.to].valid) link(saved.exit, blocks_[saved.to], Lasting::Space);
  }
}

void BlockStore::suspend_links_to(u64 address, u64 bytes) {
  for (usize kind = 0; kind < kLastings; kind++) {
    if (bytes == kPageSize && !live_pages_[kind].may_hold(address)) continue;
    auto& list = live_cells_[kind];
    usize kept = 0;
    for (const ExitIndex number : list) {
      if (((exits_[number].target ^ address) & ~(bytes - 1)) == 0) {
        patch_site(exits_[number], exits_[number].stub);
        exits_[number].listed = static_cast<u8>(exits_[number].listed & ~(1u << kind));
      } else {
        list[kept++] = number;
      }
    }
    list.resize(kept);
  }
}

// Stays on its page's list, as a block that is not valid.
void BlockStore::drop(BlockIndex i) {
  Block& b = blocks_[i];
  b.valid = false;
  for (ExitIndex e = b.incoming; e != kNone;) {
    const ExitIndex next = exits_[e].next_incoming;
    unlink(e);
    e = next;
  }
  b.incoming = kNone;
  table_.remove(i, [this](BlockIndex n) -> const Block& { return blocks_[n]; });
}

void BlockStore::ungroup(BlockIndex i) {
  ungrouped_.insert(blocks_[i].linear);
  drop(i);
}

void BlockStore::clear() {
  used_ = part_.first;
  cells_used_ = part_.first_cell;
  table_.clear();
  blocks_.clear();
  exits_.clear();
  infos_.clear();
  pages_.clear();
  ungrouped_.clear();
  spanning_.clear();
  for (auto& list : live_cells_) list.clear();
  for (PageFilter& pages : live_pages_) pages.clear();
  cleared_++;
}

}  // namespace nacre::soft
