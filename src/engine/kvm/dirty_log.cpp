#include "engine/kvm/dirty_log.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "host/error.hpp"
#include "memory/address_space.hpp"

namespace nacre::kvm {
namespace {

// 2048 entries: a processor comes out some 500 before they are used up.
constexpr usize kRingBytes = 2048 * sizeof(kvm_dirty_gfn);

}  // namespace

DirtyLog::DirtyLog(const System& system, int vm) : vm_(vm) {
  if (const char* wanted = std::getenv("NACRE_KVM_DIRTY"); wanted != nullptr && std::string_view(wanted) == "bitmap") return;
  if (!hardware_virtualization()) return;  // one that emulates has been seen to hang in a full ring
  for (const u32 extension : {u32{KVM_CAP_DIRTY_LOG_RING_ACQ_REL}, u32{KVM_CAP_DIRTY_LOG_RING}}) {
    if (system.can(static_cast<int>(extension)) < static_cast<int>(kRingBytes)) continue;
    kvm_enable_cap ring = {};
    ring.cap = extension;
    ring.args[0] = kRingBytes;
    if (request(vm_, KVM_ENABLE_CAP, &ring) != 0) continue;
    ring_bytes_ = kRingBytes;
    return;
  }
}

Status DirtyLog::add_processor(int vcpu) {
  if (!has_rings()) return {};
  rings_.push_back({TRY(host::Mapping::shared_file(vcpu, ring_bytes_, PROT_READ | PROT_WRITE, KVM_DIRTY_LOG_PAGE_OFFSET * kPageSize)), 0});
  return {};
}

Status DirtyLog::log_writes(bool wanted) {
  for (Slot& slot : slots_) {
    slot.region.flags = wanted ? u32{KVM_MEM_LOG_DIRTY_PAGES} : 0;
    if (request(vm_, KVM_SET_USER_MEMORY_REGION, &slot.region) != 0)
      return host::errno_error("KVM does not note which memory the guest writes to");
  }
  return {};
}

Status DirtyLog::collect() {
  const std::lock_guard held(collecting_);
  if (!has_rings()) return collect_bitmaps();
  for (Ring& ring : rings_) collect_ring(ring);
  if (request(vm_, KVM_RESET_DIRTY_RINGS) < 0) return host::errno_error("KVM does not take back its list of written memory");
  return {};
}

// Linux, include/uapi/linux/kvm.h: KVM_DIRTY_GFN_F_DIRTY.
void DirtyLog::collect_ring(Ring& ring) {
  auto* entries = reinterpret_cast<kvm_dirty_gfn*>(ring.entries.data());
  const usize count = ring_bytes_ / sizeof(kvm_dirty_gfn);
  for (;;) {
    kvm_dirty_gfn& entry = entries[ring.next % count];
    if ((__atomic_load_n(&entry.flags, __ATOMIC_ACQUIRE) & KVM_DIRTY_GFN_F_MASK) != KVM_DIRTY_GFN_F_DIRTY) return;
    mark(entry.slot, entry.offset);
    __atomic_store_n(&entry.flags, static_cast<u32>(KVM_DIRTY_GFN_F_RESET), __ATOMIC_RELEASE);
    ++ring.next;
  }
}

Status DirtyLog::collect_bitmaps() {
  for (const Slot& slot : slots_) {
    const usize pages = slot.region.memory_size / kPageSize;
    std::vector<u64> written((pages + 63) / 64);
    kvm_dirty_log log = {};
    log.slot = slot.region.slot;
    log.dirty_bitmap = written.data();
    if (request(vm_, KVM_GET_DIRTY_LOG, &log) != 0)
      return host::errno_error("KVM does not tell which memory the guest has written to");
    for (usize word = 0; word < written.size(); ++word) {
      for (u64 bits = written[word]; bits != 0; bits &= bits - 1)
        mark(log.slot, 64 * word + static_cast<usize>(__builtin_ctzll(bits)));
    }
  }
  return {};
}

void DirtyLog::mark(u32 number, u64 page) {
  const auto slot = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& each) { return each.region.slot == number; });
  if (slot == slots_.end() || page >= slot->region.memory_size / kPageSize) return;
  __atomic_fetch_or(slot->page_flags + page, memory::PageFlag::dirty, __ATOMIC_RELAXED);
}

}  // namespace nacre::kvm
