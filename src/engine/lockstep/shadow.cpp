#include "engine/lockstep/shadow.hpp"

#include <unistd.h>

#include <cstring>

#include "x86/registers.hpp"

namespace nacre::lockstep {
namespace {

using memory::Region;
using memory::RegionKind;

// The lowest host address of RAM: all of it is one mapping.
u8* ram_base(const memory::AddressSpace& memory, u64& bytes) {
  u8* base = nullptr;
  u8* end = nullptr;
  for (usize i = 0; i < memory.region_count(); ++i) {
    const Region& region = memory.region(i);
    if (region.kind != RegionKind::Ram) continue;
    if (base == nullptr || region.host < base) base = region.host;
    if (region.host + region.size > end) end = region.host + region.size;
  }
  bytes = static_cast<u64>(end - base);
  return base;
}

u64 word(const u8* at) {
  u64 value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

Result<std::unique_ptr<Shadow>> Shadow::create(const engine::EngineContext& context, Log& log) {
  u64 bytes = 0;
  u8* base = ram_base(context.memory, bytes);
  auto ram = TRY(host::GuestRam::create(bytes));
  std::memset(ram.page_flags(), memory::PageFlag::code, bytes / kPageSize);
  auto vector = TRY(engine::HostedVectorUnit::create());
  std::unique_ptr<Shadow> shadow(new Shadow(context, std::move(ram), base, std::move(vector), log));
  if (auto status = shadow->map(); !status) return status.error();
  return shadow;
}

Shadow::Shadow(const engine::EngineContext& context, host::GuestRam ram, u8* running_base,
               std::unique_ptr<engine::HostedVectorUnit> vector, Log& log)
    : running_memory_(context.memory),
      ram_(std::move(ram)),
      running_(running_base),
      vector_(std::move(vector)),
      replayer_(log, memory_),
      interpreter_(new interp::Interpreter(memory_, replayer_, context.model, vector_->unit(), this)),
      is_written_(ram_.size() / kPageSize),
      is_table_(ram_.size() / kPageSize),
      touched_(ram_.size() / kPageSize) {
  interpreter_->set_listener(this);
}

Status Shadow::map() {
  for (usize i = 0; i < running_memory_.region_count(); ++i) {
    const Region& region = running_memory_.region(i);
    if (region.kind == RegionKind::Rom) {
      if (auto status = memory_.add_rom(region.base, region.size, region.host); !status) return status;
    }
    if (region.kind != RegionKind::Ram) continue;  // devices are behind the Platform
    const u64 offset = static_cast<u64>(region.host - running_);
    if (auto status = memory_.add_ram(region.base, region.size, ram_.data() + offset,
                                      ram_.page_flags() + offset / kPageSize);
        !status) {
      return status;
    }
  }
  return {};
}

void Shadow::mirror(int ram_file) {
  const u64 size = ram_.size();
  u64 at = 0;
  while (at < size) {
    u64 end = size;
    if (ram_file >= 0) {
      const off_t data = lseek(ram_file, static_cast<off_t>(at), SEEK_DATA);
      if (data < 0) break;
      const off_t hole = lseek(ram_file, data, SEEK_HOLE);
      at = static_cast<u64>(data);
      end = hole < 0 ? size : static_cast<u64>(hole);
    }
    std::memcpy(ram_.data() + at, running_ + at, end - at);
    for (u64 page = at / kPageSize; page < (end + kPageSize - 1) / kPageSize; ++page) touched_[page] = true;
    at = end;
  }
}

bool Shadow::can_step() const {
  return state.activity == cpu::Activity::Running || state.nmi_pending || replayer_.interrupt_next();
}

void Shadow::step() {
  delivered_ = {};
  const bool due = state.pending.kind != cpu::Event::Kind::None ||
                   (state.nmi_pending && !state.nmi_blocked && !state.interrupt_shadow);
  if (due || replayer_.interrupt_next()) {
    interpreter_->step(state);
  } else {
    interpreter_->execute_one(state);
  }
}

void Shadow::code_written(GuestPhysical address, usize bytes) {
  const u8* host = memory_.host(address, false);
  if (host == nullptr) return;
  const u64 offset = static_cast<u64>(host - ram_.data());
  for (u64 page = offset / kPageSize; page <= (offset + bytes - 1) / kPageSize; ++page) {
    if (is_written_[page]) continue;
    is_written_[page] = true;
    written_.push_back(page);
  }
}

void Shadow::table_marked(GuestPhysical entry) {
  const u8* host = memory_.host(entry, false);
  if (host != nullptr) is_table_[static_cast<u64>(host - ram_.data()) / kPageSize] = true;
}

u64 Shadow::physical_of(usize page) const {
  for (usize i = 0; i < running_memory_.region_count(); ++i) {
    const Region& region = running_memory_.region(i);
    if (region.kind != RegionKind::Ram) continue;
    const u64 offset = static_cast<u64>(region.host - running_);
    if (page * kPageSize - offset < region.size) return region.base.value() + page * kPageSize - offset;
  }
  return ~u64{0};
}

bool Shadow::page_equal(usize page, const Allowed& allowed, Found& found,
                        std::vector<Difference>* differences) const {
  const u8* mine = ram_.data() + page * kPageSize;
  const u8* its = running_ + page * kPageSize;
  if (std::memcmp(mine, its, kPageSize) == 0) return true;
  bool equal = true;
  for (usize at = 0; at < kPageSize; at += 8) {
    const u64 a = word(its + at), b = word(mine + at);
    if (a == b) continue;
    const u64 differing = a ^ b;
    // Entries of 8 bytes, or two of 4.
    constexpr u64 kAccessed = u64{x86::Pte::A} | u64{x86::Pte::A} << 32;
    constexpr u64 kDirty = u64{x86::Pte::D} | u64{x86::Pte::D} << 32;
    if (is_table_[page] && (differing & ~(kAccessed | kDirty)) == 0 && (a & b & x86::Pte::P) != 0) {
      ++((differing & kDirty) != 0 ? found.dirty_bits : found.accessed_bits);
      continue;
    }
    const u64 physical = physical_of(page) + at;
    if (physical == allowed.frame_flags && (differing & ~x86::Rflags::arithmetic) == 0) {
      found.frame_flags = differing;
      continue;
    }
    equal = false;
    if (differences == nullptr) return false;
    differences->push_back({physical, a, b});
  }
  return equal;
}

bool Shadow::pages_equal(const Allowed& allowed, Found& found, std::vector<Difference>* differences) const {
  bool equal = true;
  for (const usize page : written_) {
    if (page_equal(page, allowed, found, differences)) continue;
    equal = false;
    if (differences == nullptr) break;
  }
  return equal;
}

void Shadow::adopt_pages() {
  for (const usize page : written_) {
    std::memcpy(ram_.data() + page * kPageSize, running_ + page * kPageSize, kPageSize);
  }
}

void Shadow::forget_written() {
  for (const usize page : written_) {
    is_written_[page] = false;
    touched_[page] = true;
  }
  written_.clear();
}

bool Shadow::all_equal(Found& found, std::vector<Difference>& differences) {
  bool equal = true;
  for (usize page = 0; page < touched_.size(); ++page) {
    if (!touched_[page]) {
      const u8* flags = running_memory_.page_flags(GuestPhysical(physical_of(page)));
      if (flags == nullptr || (*flags & memory::PageFlag::dirty) == 0) continue;
      touched_[page] = true;
    }
    Found here;
    if (!page_equal(page, {}, here, &differences)) equal = false;
    if (here.accessed_bits + here.dirty_bits != 0) {
      found.accessed_bits += here.accessed_bits;
      found.dirty_bits += here.dirty_bits;
      if (equal) std::memcpy(ram_.data() + page * kPageSize, running_ + page * kPageSize, kPageSize);
    }
  }
  return equal;
}

}  // namespace nacre::lockstep
