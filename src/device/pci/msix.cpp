#include "device/pci/msix.hpp"

#include <type_traits>

#include "base/bits.hpp"
#include "device/pci/message.hpp"

namespace nacre::device::pci {
namespace {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<MsiX::State>);

u32* word(MsiX::Entry& entry, unsigned index) {
  switch (index) {
    case 0:
      return &entry.address_low;
    case 1:
      return &entry.address_high;
    case 2:
      return &entry.data;
    default:
      return &entry.control;
  }
}

}  // namespace

MsiX::MsiX(irq::MessageSink& sink, unsigned vectors) : sink_(sink), vectors_(vectors) {
  NACRE_CHECK(vectors >= 1 && vectors <= kMaxVectors);
}

void MsiX::reset() {
  state_.enabled = 0;
  state_.masked = 0;
  state_.pending = 0;
  for (Entry& entry : state_.entries) entry = Entry{};
}

u64 MsiX::read_table(u64 offset, unsigned size) const {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u64 at = offset + i;
    if (at / kEntryBytes >= vectors_) break;
    Entry entry = state_.entries[at / kEntryBytes];
    value |= u64{*word(entry, at / 4 % 4) >> (8 * (at % 4)) & 0xff} << (8 * i);
  }
  return value;
}

void MsiX::write_table(u64 offset, unsigned size, u64 value) {
  for (unsigned i = 0; i < size; ++i) {
    const u64 at = offset + i;
    if (at / kEntryBytes >= vectors_) break;
    u32& target = *word(state_.entries[at / kEntryBytes], at / 4 % 4);
    const unsigned shift = 8 * static_cast<unsigned>(at % 4);
    target = (target & ~(u32{0xff} << shift)) | static_cast<u32>(value >> (8 * i) & 0xff) << shift;
  }
  for (Entry& entry : state_.entries) entry.control &= 1;
  send_pending();  // an entry may have been unmasked
}

u64 MsiX::read_pending(u64 offset, unsigned size) const {
  if (offset >= 8) return 0;
  return state_.pending >> (8 * offset) & low_bytes_mask(size);
}

void MsiX::control(bool enabled, bool masked) {
  state_.enabled = enabled ? 1 : 0;
  state_.masked = masked ? 1 : 0;
  send_pending();
}

void MsiX::fire(u16 vector) {
  if (vector >= vectors_ || state_.enabled == 0) return;
  if (is_masked(vector)) {
    state_.pending |= u64{1} << vector;
  } else {
    send(vector);
  }
}

void MsiX::send(unsigned vector) {
  const Entry& entry = state_.entries[vector];
  send_message(sink_, u64{entry.address_high} << 32 | entry.address_low, entry.data);
}

void MsiX::send_pending() {
  if (state_.enabled == 0) return;
  for (unsigned vector = 0; state_.pending >> vector != 0; ++vector) {
    if ((state_.pending >> vector & 1) == 0 || is_masked(vector)) continue;
    state_.pending &= ~(u64{1} << vector);
    send(vector);
    if (vector == kMaxVectors - 1) break;
  }
}

Status MsiX::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("a PCI device's saved MSI-X table has an unknown version");
  state_ = state;
  state_.enabled &= 1;
  state_.masked &= 1;
  for (unsigned i = 0; i < kMaxVectors; ++i) {
    state_.entries[i].control &= 1;
    if (i >= vectors_) state_.entries[i] = Entry{};
  }
  if (vectors_ < 64) state_.pending &= (u64{1} << vectors_) - 1;
  return {};
}

}  // namespace nacre::device::pci
