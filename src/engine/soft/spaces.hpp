// Spaces: what a vCPU had cached of address spaces that are not current (CR4.PCIDE), so that coming back to one costs
// neither page walks nor a way through the dispatcher for each of its jumps. Each space is found by its PCID and
// holds copies of what was not global: TLB entries, indirect jumps of user code, links that cross pages. The Tlb
// and the BlockStore move them in and out; here is only where they are. Bounded; never allocates after construction.
// Owned by the vCPU's thread.
#pragma once

#include <vector>

#include "engine/soft/block.hpp"
#include "engine/soft/context.hpp"

namespace nacre::soft {

struct Space {
  struct Entry {
    TlbEntry entry;
    u16 index;
    u8 view;
  };
  struct Jump {
    u64 code;
    u16 target;
  };
  struct Link {
    ExitIndex exit;
    BlockIndex to;
  };
  static constexpr usize kMostEntries = 1024, kMostJumps = 1024, kMostLinks = 2048;

  u16 pcid = 0;
  bool used = false;
  u64 last_use = 0;
  std::vector<Entry> entries;
  std::vector<Jump> jumps;  // of View::User
  u64 jumps_low = 0, jumps_high = 0;
  u64 jumps_age = 0;  // Tlb::jumps_age() when they were right
  std::vector<Link> links;
  u64 links_age = 0;  // BlockStore::cleared() when they were right
};

class Spaces {
 public:
  // Linux uses six PCIDs on each processor.
  static constexpr usize kMost = 8;

  Spaces() {
    for (Space& space : spaces_) {
      space.entries.reserve(Space::kMostEntries);
      space.jumps.reserve(Space::kMostJumps);
      space.links.reserve(Space::kMostLinks);
    }
  }

  // Null when nothing is kept of it.
  Space* find(u16 pcid) {
    for (Space& space : spaces_) {
      if (space.used && space.pcid == pcid) return &space;
    }
    return nullptr;
  }
  // An empty one for the PCID, in the place of its last or of the least recently used.
  Space& make(u16 pcid) {
    Space* best = find(pcid);
    for (Space& space : spaces_) {
      if (best != nullptr && best->used && best->pcid == pcid) break;
      if (best == nullptr || (best->used && (!space.used || space.last_use < best->last_use))) best = &space;
    }
    best->entries.clear();
    best->jumps.clear();
    best->links.clear();
    best->pcid = pcid;
    best->used = true;
    best->last_use = ++clock_;
    return *best;
  }
  void forget(u16 pcid) {
    if (Space* space = find(pcid)) space->used = false;
  }
  void forget_all() {
    for (Space& space : spaces_) space.used = false;
  }
  // The page at this host address holds translated code: nobody may write it unseen.
  void protect(u64 host_page) {
    for (Space& space : spaces_) {
      if (!space.used) continue;
      for (Space::Entry& e : space.entries) {
        if (e.entry.host_page == host_page) e.entry.write_tag = empty_tag(e.index);
      }
    }
  }

 private:
  Space spaces_[kMost];
  u64 clock_ = 0;
};

}  // namespace nacre::soft
