#include "irq/pic/pic.hpp"

#include <type_traits>

#include <bit>

namespace nacre::irq {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<Pic::State>);

namespace {

// Command words. 8259A data sheet, figures 7 and 8.
constexpr u8 kIcw1 = 1 << 4, kIcw1NeedIcw4 = 1 << 0, kIcw1Single = 1 << 1, kIcw1Level = 1 << 3;
constexpr u8 kIcw4AutoEoi = 1 << 1, kIcw4FullyNested = 1 << 4;
constexpr u8 kOcw3 = 1 << 3, kOcw3Read = 1 << 1, kOcw3ReadIsr = 1 << 0, kOcw3Poll = 1 << 2;
constexpr u8 kOcw3SetsMask = 1 << 6, kOcw3SpecialMask = 1 << 5;

u8 bit(unsigned input) {
  return static_cast<u8>(1u << input);
}

u8 without(u8 set, unsigned input) {
  return static_cast<u8>(set & ~bit(input));
}

// The member of `set` with the highest priority, as its distance from the highest (0..7); 8 when
// the set is empty.
unsigned rank_of_highest(const Pic::Chip& chip, u8 set) {
  if (set == 0) return 8;
  return static_cast<unsigned>(std::countr_zero(std::rotr(set, (chip.lowest + 1) & 7)));
}
unsigned input_of_rank(const Pic::Chip& chip, unsigned rank) {
  return (chip.lowest + 1 + rank) & 7;
}

}  // namespace

void Pic::reset() {
  for (Chip& chip : state_.chip) {
    const u8 level = chip.level;
    chip = Chip{};
    chip.level = level;
  }
  update();
}

void Pic::set_input(unsigned input, bool asserted) {
  if (input >= 16 || input == kCascade) return;
  set_wire(state_.chip[input / 8], input % 8, asserted);
  update();
}

// Level inputs follow the wire. Edge inputs latch a rise and keep it until acknowledged, even when the
// wire falls first: a real chip would answer that with a spurious vector, which helps nobody.
void Pic::set_wire(Chip& chip, unsigned input, bool asserted) {
  const bool was_asserted = (chip.level & bit(input)) != 0;
  chip.level = asserted ? chip.level | bit(input) : without(chip.level, input);
  const bool level_triggered = chip.level_mode != 0 || (chip.elcr & bit(input)) != 0;
  if (asserted && (level_triggered || !was_asserted)) chip.irr |= bit(input);
  if (!asserted && level_triggered) chip.irr = without(chip.irr, input);
}

int Pic::candidate(unsigned index) const {
  const Chip& chip = state_.chip[index];
  if (chip.icw_expected != 0) return -1;
  const unsigned rank = rank_of_highest(chip, static_cast<u8>(chip.irr & ~chip.imr));
  if (rank == 8) return -1;
  u8 blocking = chip.isr;
  // Special mask mode: a request in service whose input is masked does not block the others.
  if (chip.special_mask != 0) blocking = static_cast<u8>(blocking & ~chip.imr);
  // Special fully nested mode: the slave may interrupt its own lower-priority service.
  if (chip.fully_nested != 0 && index == 0) blocking = without(blocking, kCascade);
  return rank < rank_of_highest(chip, blocking) ? static_cast<int>(input_of_rank(chip, rank)) : -1;
}

bool Pic::interrupt_pending() const {
  return candidate(0) >= 0;
}

void Pic::update() {
  // The cascade input follows the slave: its INT pin falls and rises again around every INTA.
  u8& master_irr = state_.chip[0].irr;
  master_irr = candidate(1) >= 0 ? master_irr | bit(kCascade) : without(master_irr, kCascade);
  output_.set(candidate(0) >= 0);
}

void Pic::acknowledge_input(Chip& chip, unsigned input) {
  const bool level_triggered = chip.level_mode != 0 || (chip.elcr & bit(input)) != 0;
  if (!level_triggered) chip.irr = without(chip.irr, input);
  if (chip.auto_eoi == 0) {
    chip.isr |= bit(input);
  } else if (chip.rotate_on_aeoi != 0) {
    chip.lowest = static_cast<u8>(input);
  }
}

u8 Pic::acknowledge() {
  Chip& master = state_.chip[0];
  const int input = candidate(0);
  u8 vector = static_cast<u8>(master.vector_base + 7);
  if (input >= 0) {
    acknowledge_input(master, static_cast<unsigned>(input));
    vector = static_cast<u8>(master.vector_base + input);
  }
  if (input == static_cast<int>(kCascade)) {
    Chip& slave = state_.chip[1];
    const int slave_input = candidate(1);
    if (slave_input >= 0) acknowledge_input(slave, static_cast<unsigned>(slave_input));
    vector = static_cast<u8>(slave.vector_base + (slave_input >= 0 ? slave_input : 7));
  }
  update();
  return vector;
}

// OCW3 poll: the next read acknowledges, and says whether and what. Data sheet, "Poll command".
u8 Pic::poll(unsigned index) {
  Chip& chip = state_.chip[index];
  chip.poll = 0;
  const int input = candidate(index);
  if (input < 0) return 0;
  acknowledge_input(chip, static_cast<unsigned>(input));
  update();
  return static_cast<u8>(0x80 | input);
}

u8 Pic::read(unsigned chip_index, u16 offset) {
  const unsigned index = chip_index & 1;
  Chip& chip = state_.chip[index];
  if (chip.poll != 0) return poll(index);
  if ((offset & 1) != 0) return chip.imr;
  return chip.read_isr != 0 ? chip.isr : chip.irr;
}

void Pic::write(unsigned chip_index, u16 offset, u8 value) {
  Chip& chip = state_.chip[chip_index & 1];
  if ((offset & 1) != 0) {
    write_data(chip, value);
  } else {
    write_command(chip, value);
  }
  update();
}

void Pic::write_command(Chip& chip, u8 value) {
  if ((value & kIcw1) != 0) {
    begin_initialisation(chip, value);
  } else if ((value & kOcw3) != 0) {
    if ((value & kOcw3Poll) != 0) chip.poll = 1;
    if ((value & kOcw3Read) != 0) chip.read_isr = value & kOcw3ReadIsr;
    if ((value & kOcw3SetsMask) != 0) chip.special_mask = (value & kOcw3SpecialMask) != 0 ? 1 : 0;
  } else {
    operate(chip, value);
  }
}

// Data sheet, "Initialization command words": what ICW1 clears. ELCR and wires are outside the chip.
void Pic::begin_initialisation(Chip& chip, u8 icw1) {
  Chip fresh;
  fresh.level = chip.level;
  fresh.elcr = chip.elcr;
  fresh.vector_base = chip.vector_base;
  fresh.icw_expected = 2;
  fresh.icw4_needed = icw1 & kIcw1NeedIcw4;
  fresh.single = (icw1 & kIcw1Single) != 0 ? 1 : 0;
  fresh.level_mode = (icw1 & kIcw1Level) != 0 ? 1 : 0;
  // Edge latches start empty; inputs that are level-triggered and asserted request at once.
  fresh.irr = fresh.level_mode != 0 ? fresh.level : static_cast<u8>(fresh.level & fresh.elcr);
  chip = fresh;
}

void Pic::write_data(Chip& chip, u8 value) {
  switch (chip.icw_expected) {
    case 0:
      chip.imr = value;
      return;
    case 2:
      chip.vector_base = value & 0xf8;
      chip.icw_expected = chip.single == 0 ? 3 : (chip.icw4_needed != 0 ? 4 : 0);
      return;
    case 3:  // which input is the cascade is fixed by the wiring
      chip.icw_expected = chip.icw4_needed != 0 ? 4 : 0;
      return;
    default:
      chip.auto_eoi = (value & kIcw4AutoEoi) != 0 ? 1 : 0;
      chip.fully_nested = (value & kIcw4FullyNested) != 0 ? 1 : 0;
      chip.icw_expected = 0;
      return;
  }
}

// OCW2: bits 7..5 are rotate, specific, EOI. Data sheet, "Operation command word 2".
void Pic::operate(Chip& chip, u8 ocw2) {
  const u8 named = ocw2 & 7;
  const unsigned rank = rank_of_highest(chip, chip.isr);
  const unsigned highest = input_of_rank(chip, rank & 7);
  switch (ocw2 >> 5) {
    case 0:
      chip.rotate_on_aeoi = 0;
      break;
    case 4:
      chip.rotate_on_aeoi = 1;
      break;
    case 1:  // non-specific EOI
    case 5:  // the same, and rotate
      if (rank == 8) break;
      chip.isr = without(chip.isr, highest);
      if (ocw2 >> 5 == 5) chip.lowest = static_cast<u8>(highest);
      break;
    case 3:
      chip.isr = without(chip.isr, named);
      break;
    case 7:
      chip.isr = without(chip.isr, named);
      chip.lowest = named;
      break;
    case 6:
      chip.lowest = named;
      break;
    default:
      break;  // 2: no operation
  }
}

void Pic::write_elcr(unsigned chip_index, u8 value) {
  // Inputs 0, 1, 2 and 8, 13 are edge-triggered whatever is written. ICH data sheet, ELCR1/ELCR2.
  Chip& chip = state_.chip[chip_index & 1];
  chip.elcr = value & ((chip_index & 1) == 0 ? 0xf8 : 0xde);
  chip.irr = static_cast<u8>((chip.irr & ~chip.elcr) | (chip.level & chip.elcr));
  update();
}

Status Pic::load(const State& state) {
  if (state.version != State::kVersion) return Error("the 8259 pair's saved state has an unknown version");
  for (const Chip& chip : state.chip) {
    if (chip.icw_expected > 4 || chip.icw_expected == 1) {
      return Error("the 8259 pair's saved state is damaged: no such initialisation step");
    }
  }
  state_ = state;
  for (Chip& chip : state_.chip) {
    chip.lowest &= 7;
    chip.vector_base &= 0xf8;
  }
  update();
  return {};
}

}  // namespace nacre::irq
