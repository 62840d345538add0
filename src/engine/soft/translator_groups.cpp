// Groups: accesses of one block off the same unchanged base register, close together, share one check.
// docs/soft-engine.md, "Shared checks".
#include "engine/soft/translator.hpp"

namespace nacre::soft {

using x86::Access;
using x86::Class;
using x86::Gpr;
using x86::Instruction;
using x86::kNoRegister;
using x86::Operation;
using x86::R14;
using x86::R15;
using x86::RSP;

namespace {

constexpr i64 kLargestWindow = 512;  // bytes that one check may cover

// How far base + index, shifted left by scale, has moved since their versions began.
i64 moved(const std::array<i32, 16>& delta, u8 base, u8 index, u8 scale) {
  return i64{delta[base]} + (index == kNoRegister ? 0 : i64{delta[index]} * (1 << scale));
}

bool is_plain(const Instruction& insn) {
  switch (insn.info->kind) {
    case Class::Plain:
    case Class::X87:
    case Class::Sse:
    case Class::Avx:
      return true;
    default:
      return false;
  }
}

}  // namespace

// What the instruction accesses, when that is base + constant and so may share a check.
std::optional<Translator::GroupAccess> Translator::group_access_of(const Item& item) const {
  const Instruction& insn = item.insn;
  const x86::Operand& first = insn.info->operands[0];
  if (insn.info->kind == Class::Stack || insn.info->kind == Class::Call || insn.info->kind == Class::Return) {
    if (insn.operand_size_prefix || insn.address_size != 8) return std::nullopt;
    switch (insn.info->operation) {
      case Operation::Push:
        if (insn.is_memory || first.kind == x86::OperandKind::SegmentFixed) return std::nullopt;
        return GroupAccess{RSP, -8, 8, true};
      case Operation::Pushf:
        return GroupAccess{RSP, -8, 8, true};
      case Operation::Pop:
        if (insn.is_memory || first.kind == x86::OperandKind::SegmentFixed) return std::nullopt;
        return GroupAccess{RSP, 0, 8, false};
      case Operation::Call:
        if (insn.is_memory) return std::nullopt;
        return GroupAccess{RSP, -8, 8, true};
      case Operation::Ret:
        return GroupAccess{RSP, 0, 8, false};
      default:
        return std::nullopt;
    }
  }
  if (!is_plain(insn) || !unit_available(insn) || needs_interpreter(insn)) return std::nullopt;
  const x86::Operand* memory = x86::memory_operand(insn);
  if (memory == nullptr || memory->access == Access::Address || !insn.is_memory) return std::nullopt;
  if (insn.base == kNoRegister || insn.base == x86::kRipBase) return std::nullopt;
  // One of base and index must be at home: there is but one register to compute with once R15 holds an addend.
  if (insn.index != kNoRegister && (insn.base == RSP || (host_register(insn.base) == kNoRegister &&
                                                         host_register(insn.index) == kNoRegister)))
    return std::nullopt;
  if (insn.address_size != 8 || insn.segment == x86::FS || insn.segment == x86::GS) return std::nullopt;
  const unsigned bytes = x86::operand_bytes(insn, memory->width);
  if (bytes == 0 || bytes > 64 || insn.displacement > (1 << 20) || insn.displacement < -(1 << 20))
    return std::nullopt;
  return GroupAccess{insn.base, static_cast<i32>(insn.displacement), bytes,
                     memory->access == Access::Write || memory->access == Access::ReadWrite, insn.index, insn.scale};
}

// Where a group first needed at `item` is checked: there, or, when flags are live there, at an earlier item
// that sees the same base and has none. Nothing that leaves the block may lie between.
u32 Translator::early_check(u32 from, u32 item) const {
  if (items_[item].live_flags == 0) return item;
  for (u32 i = item; i-- > from;) {
    const Class kind = items_[i].insn.info->kind;
    if ((!is_plain(items_[i].insn) && kind != Class::Stack) || is_behind_sti(i)) break;
    if (items_[i].live_flags == 0) return i;
  }
  return item;
}

// There, a check that fails must not go on with the twin, which would not know of the shadow.
bool Translator::is_behind_sti(u32 item) const {
  return item != 0 && items_[item - 1].insn.info != nullptr && info_is(items_[item - 1].insn, Operation::Sti);
}

void Translator::find_groups() {
  groups_.clear();
  u32 version[16] = {};
  u32 began[16] = {};   // the first item that sees that version
  Deltas delta{};  // every register now, minus what it was when its version began
  deltas_.clear();
  u32 number = 0;
  const auto changed = [&](u8 guest) {
    version[guest & 15]++;
    began[guest & 15] = number + 1;
    delta[guest & 15] = 0;
  };
  for (; number < items_.size(); number++) {
    Item& item = items_[number];
    item.group = kNone;
    if (item.insn.info == nullptr) break;
    const Instruction& insn = item.insn;
    deltas_.push_back(delta);
    if (input_.grouping && !code32() && !is_behind_sti(number)) {
      if (const auto access = group_access_of(item)) {
        const bool indexed = access->index != kNoRegister;
        const i64 low = access->offset + moved(delta, access->base, access->index, access->scale);
        const i64 high = low + access->bytes;
        const u32 version_of_index = indexed ? version[access->index] : 0;
        const u32 index_began = indexed ? began[access->index] : 0;
        for (u32 g = 0; g < groups_.size(); g++) {
          Group& group = groups_[g];
          if (group.base != access->base || group.version != version[access->base]) continue;
          if (group.index != access->index || group.scale != access->scale ||
              group.index_version != version_of_index)
            continue;
          const i64 new_low = low < group.low ? low : group.low;
          const i64 new_high = high > group.high ? high : group.high;
          if (new_high - new_low > kLargestWindow) continue;
          group.low = new_low;
          group.high = new_high;
          group.write |= access->write;
          group.count++;
          group.last = number;
          item.group = g;
          break;
        }
        if (item.group == kNone && groups_.size() < kGroupSlots) {
          item.group = static_cast<u32>(groups_.size());
          const u32 base_began = began[access->base];
          groups_.push_back({access->base, access->index, access->scale, version[access->base], version_of_index, low,
                             high, access->write, 1, false, false,
                             early_check(base_began > index_began ? base_began : index_began, number), number, number});
        }
      }
    }
    // What it changes.
    switch (insn.info->kind) {
      case Class::Plain:
      case Class::X87:
      case Class::Sse:
      case Class::Avx: {
        const x86::OpcodeInfo& info = *insn.info;
        // Steps by a constant are followed.
        const bool on_register = insn.has_modrm && !insn.is_memory && insn.w;
        if (on_register && (info.operation == Operation::Add || info.operation == Operation::Sub) &&
            insn.immediate_size != 0) {
          const i64 amount = static_cast<i64>(insn.immediate);
          if (amount > -(1 << 20) && amount < (1 << 20)) {
            delta[insn.rm] += static_cast<i32>(info.operation == Operation::Add ? amount : -amount);
            break;
          }
        }
        if (on_register && (info.operation == Operation::Inc || info.operation == Operation::Dec)) {
          delta[insn.rm] += info.operation == Operation::Inc ? 1 : -1;
          break;
        }
        if (info.operation == Operation::Lea && insn.reg == insn.base && insn.index == kNoRegister && insn.w &&
            insn.address_size == 8 && insn.segment == x86::kNoSegment && insn.displacement > -(1 << 20) &&
            insn.displacement < (1 << 20)) {
          delta[insn.reg] += static_cast<i32>(insn.displacement);
          break;
        }
        const u16 written = written_registers(insn);
        for (u8 r = 0; r < 16; r++) {
          if ((written >> r & 1) != 0) changed(r);
        }
        break;
      }
      case Class::Stack:
        if (item.group != kNone && (info_is(insn, Operation::Push) || info_is(insn, Operation::Pushf))) {
          delta[RSP] -= 8;
          break;
        }
        if (item.group != kNone && info_is(insn, Operation::Pop)) {
          delta[RSP] += 8;
          const u8 guest =
              insn.has_modrm ? insn.rm : static_cast<u8>((insn.opcode & 7) | ((insn.rex & 1) << 3));
          if (guest != RSP) {
            changed(guest);
            break;
          }
        }
        for (u8 r = 0; r < 16; r++) changed(r);
        break;
      case Class::JumpIf:
        changed(x86::RCX);  // loop
        break;
      default:
        for (u8 r = 0; r < 16; r++) changed(r);
    }
  }
  // A lone access with an index gains nothing but an early check.
  for (Group& group : groups_) {
    if (group.index == kNoRegister || group.count > 1 || group.check_at != group.first) continue;
    items_[group.first].group = kNone;
    group.check_at = kNone;
  }
}

// Whether R15 may be needed for something else between the check of the group, at `from`, and its last access.
bool Translator::loses_addend(u32 number, u32 from) const {
  constexpr u16 kHomeless = 0xe000;
  const Group& group = groups_[number];
  for (const Group& other : groups_) {
    if (&other != &group && other.check_at != kNone && other.check_at >= from && other.check_at <= group.last) return true;
  }
  for (u32 i = from; i < group.last; i++) {
    const Instruction& insn = items_[i].insn;
    if (((x86::gprs_read(insn) | x86::gprs_written(insn)) & kHomeless) != 0) return true;
    const bool member = items_[i].group == number;
    const Class kind = insn.info->kind;
    const bool branch = kind == Class::JumpIf && info_is(insn, Operation::Jcc);
    const bool stack = member && (info_is(insn, Operation::Push) || info_is(insn, Operation::Pop));
    if (branch || stack) continue;
    if (!is_plain(insn) || !unit_available(insn) || needs_interpreter(insn)) return true;
    if (x86::memory_operand(insn) != nullptr && !member) return true;
  }
  return false;
}

// R14 = base + index, shifted left by scale, + offset. R15 is not used.
void Translator::group_address(u8 base, u8 index, u8 scale, i32 offset) {
  HostMemory sum{host_register(base), kNoRegister, 0, offset};
  if (sum.base == kNoRegister) {
    load_guest(R14, base);
    sum.base = R14;
  }
  if (index != kNoRegister) {
    sum.scale = scale;
    sum.index = host_register(index);
    if (sum.index == kNoRegister) {
      load_guest(R14, index);
      sum.index = R14;
    }
  }
  if (offset == 0 && index == kNoRegister) {
    if (sum.base != R14) e_->mov(R14, static_cast<Gpr>(sum.base));
  } else {
    e_->lea(R14, sum);
  }
}

// The check of a group, at `item`: R15 holds its addend then.
void Translator::check_group(u32 number, const Item& item) {
  Group& group = groups_[number];
  const bool stack = group.base == RSP;
  const u32 here = static_cast<u32>(&item - items_.data());
  const i64 low = group.low - moved(deltas_[here], group.base, group.index, group.scale);
  Cold cold{0, e_->size(), here, group.write, false};
  cold.group = true;
  cold.stack = stack;
  cold.window = static_cast<u32>(group.high - group.low);
  group_address(group.base, group.index, group.scale, static_cast<i32>(low));
  check_tag(cold, item.live_flags != 0);
  const usize member = offsetof(TlbEntry, addend);
  e_->load(R15, stack ? HostMemory::context(stack_page_offset(view(), member))
                      : HostMemory::context_indexed(tlb_offset(view(), member), R15, 0));
  group.kept = loses_addend(number, here);
  if (group.kept) {
    e_->store(HostMemory::context(offsetof(Context, group_addend) + 8 * number), R15);
  }
  group.checked = true;
  addend_in_r15_ = number;
}

// The host operand of the item's access, all checked. R15 holds the group's addend; R14 may be used.
HostMemory Translator::group_operand(const Item& item) {
  const Group& group = groups_[item.group];
  const GroupAccess access = *group_access_of(item);
  if (!group.checked || (addend_in_r15_ != item.group && !group.kept)) check_group(item.group, item);
  if (addend_in_r15_ != item.group) {
    e_->load(R15, HostMemory::context(offsetof(Context, group_addend) + 8 * item.group));
    addend_in_r15_ = item.group;
  }
  if (group.index != kNoRegister) {
    group_address(group.base, group.index, group.scale, access.offset);
    return HostMemory::sum(R14, R15);
  }
  const u8 home = host_register(group.base);
  if (home == kNoRegister) {
    load_guest(R14, group.base);
    return {R14, R15, 0, access.offset};
  }
  return {home, R15, 0, access.offset};
}

}  // namespace nacre::soft
