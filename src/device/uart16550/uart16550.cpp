#include "device/uart16550/uart16550.hpp"

#include <type_traits>

namespace nacre::device {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<Uart16550::State>);

namespace {

// Offsets and bits: PC16550D data sheet, table II.
enum : u16 {
  Data,
  InterruptEnable,
  InterruptId,
  LineControl,
  ModemControl,
  LineStatus,
  ModemStatus,
  Scratch
};
constexpr u8 kIerReceived = 1 << 0, kIerTransmitterEmpty = 1 << 1, kIerLineStatus = 1 << 2,
             kIerModem = 1 << 3;
constexpr u8 kIirNone = 1, kIirModem = 0, kIirTransmitterEmpty = 2, kIirReceived = 4, kIirLineStatus = 6,
             kIirTimeout = 12, kIirFifos = 0xc0;
constexpr u8 kFcrEnable = 1 << 0, kFcrResetReceiver = 1 << 1, kFcrKept = 0xc9;
constexpr u8 kLcrDivisorLatch = 1 << 7;
constexpr u8 kMcrDtr = 1 << 0, kMcrRts = 1 << 1, kMcrOut1 = 1 << 2, kMcrOut2 = 1 << 3, kMcrLoop = 1 << 4,
             kMcrAll = 0x1f;
constexpr u8 kLsrReady = 1 << 0, kLsrOverrun = 1 << 1, kLsrBreak = 1 << 4, kLsrTransmitterIdle = 0x60,
             kLsrFifoError = 1 << 7;
constexpr u8 kMsrCts = 1 << 4, kMsrDsr = 1 << 5, kMsrRi = 1 << 6, kMsrDcd = 1 << 7;

}  // namespace

void Uart16550::reset() {
  state_ = State{};
  irq_.set(false);
}

bool Uart16550::is_loopback() const {
  return (state_.mcr & kMcrLoop) != 0;
}

unsigned Uart16550::capacity() const {
  return (state_.fcr & kFcrEnable) != 0 ? kFifoBytes : 1;
}

unsigned Uart16550::trigger_level() const {
  constexpr u8 levels[4] = {1, 4, 8, 14};
  return (state_.fcr & kFcrEnable) != 0 ? levels[state_.fcr >> 6] : 1;
}

bool Uart16550::can_receive() const {
  return state_.length < capacity() && !is_loopback();
}

bool Uart16550::receive(u8 byte) {
  if (!can_receive()) return false;
  enqueue(byte, false);
  update();
  return true;
}

void Uart16550::receive_break() {
  if (!can_receive()) return;
  enqueue(0, true);
  update();
}

void Uart16550::enqueue(u8 byte, bool is_break) {
  if (state_.length >= capacity()) {
    state_.overrun = 1;
    return;
  }
  const unsigned slot = (state_.head + state_.length++) % kFifoBytes;
  state_.fifo[slot] = byte;
  const u16 bit = static_cast<u16>(1u << slot);
  state_.breaks = static_cast<u16>(is_break ? state_.breaks | bit : state_.breaks & ~bit);
}

u8 Uart16550::take_byte() {
  const u8 byte = state_.fifo[state_.head];
  if (state_.length == 0) return byte;
  state_.breaks = static_cast<u16>(state_.breaks & ~(1u << state_.head));
  state_.head = static_cast<u8>((state_.head + 1) % kFifoBytes);
  --state_.length;
  update();
  return byte;
}

u8 Uart16550::line_status() const {
  unsigned status = kLsrTransmitterIdle;
  if (state_.length != 0) {
    status |= kLsrReady;
    if ((state_.breaks >> state_.head & 1) != 0) status |= kLsrBreak;  // errors belong to the top byte
    if (state_.breaks != 0 && capacity() > 1) status |= kLsrFifoError;
  }
  if (state_.overrun != 0) status |= kLsrOverrun;
  return static_cast<u8>(status);
}

// Data sheet, "Loopback mode": the control outputs come back as status inputs.
u8 Uart16550::modem_lines() const {
  if (!is_loopback()) return kMsrCts | kMsrDsr | kMsrDcd;
  const u8 mcr = state_.mcr;
  return static_cast<u8>(((mcr & kMcrRts) != 0 ? kMsrCts : 0) | ((mcr & kMcrDtr) != 0 ? kMsrDsr : 0) |
                         ((mcr & kMcrOut1) != 0 ? kMsrRi : 0) | ((mcr & kMcrOut2) != 0 ? kMsrDcd : 0));
}

// The highest enabled cause. Data sheet, table IV.
u8 Uart16550::interrupt_reason() const {
  const u8 ier = state_.ier;
  if ((ier & kIerLineStatus) != 0 && (line_status() & (kLsrBreak | kLsrOverrun)) != 0) return kIirLineStatus;
  // Too few bytes for the trigger level wait for the character time-out, which here passes at once.
  if ((ier & kIerReceived) != 0 && state_.length != 0) {
    return state_.length >= trigger_level() ? kIirReceived : kIirTimeout;
  }
  if ((ier & kIerTransmitterEmpty) != 0 && state_.thre_pending != 0) return kIirTransmitterEmpty;
  if ((ier & kIerModem) != 0 && state_.modem_delta != 0) return kIirModem;
  return kIirNone;
}

// On a PC, OUT2 connects the chip to its interrupt wire.
void Uart16550::update() {
  const bool asserted = (state_.mcr & kMcrOut2) != 0 && interrupt_reason() != kIirNone;
  if (asserted == (state_.interrupt != 0)) return;
  state_.interrupt = asserted ? 1 : 0;
  irq_.set(asserted);
}

u8 Uart16550::read(u16 offset) {
  const bool divisor = (state_.lcr & kLcrDivisorLatch) != 0;
  switch (offset & 7) {
    case Data:
      return divisor ? static_cast<u8>(state_.divisor) : take_byte();
    case InterruptEnable:
      return divisor ? static_cast<u8>(state_.divisor >> 8) : state_.ier;
    case InterruptId:
      return read_iir();
    case LineControl:
      return state_.lcr;
    case ModemControl:
      return state_.mcr;
    case LineStatus:
      return read_lsr();
    case ModemStatus:
      return read_msr();
    default:
      return state_.scr;
  }
}

u8 Uart16550::read_iir() {
  const u8 reason = interrupt_reason();
  if (reason == kIirTransmitterEmpty) {  // reading the cause acknowledges it
    state_.thre_pending = 0;
    update();
  }
  return reason | ((state_.fcr & kFcrEnable) != 0 ? kIirFifos : u8{0});
}

u8 Uart16550::read_lsr() {
  const u8 status = line_status();
  if ((status & (kLsrBreak | kLsrOverrun)) != 0) {
    state_.overrun = 0;
    if (state_.length != 0) state_.breaks = static_cast<u16>(state_.breaks & ~(1u << state_.head));
    update();
  }
  return status;
}

u8 Uart16550::read_msr() {
  const u8 status = modem_lines() | state_.modem_delta;
  if (state_.modem_delta != 0) {
    state_.modem_delta = 0;
    update();
  }
  return status;
}

void Uart16550::write(u16 offset, u8 value) {
  const bool divisor = (state_.lcr & kLcrDivisorLatch) != 0;
  switch (offset & 7) {
    case Data:
      if (divisor) {
        state_.divisor = static_cast<u16>((state_.divisor & 0xff00) | value);
      } else {
        transmit(value);
      }
      break;
    case InterruptEnable:
      if (divisor) {
        state_.divisor = static_cast<u16>((state_.divisor & 0xff) | value << 8);
      } else {
        write_ier(value);
      }
      break;
    case InterruptId:
      write_fcr(value);
      break;
    case LineControl:
      state_.lcr = value;
      break;
    case ModemControl:
      write_mcr(value);
      break;
    case Scratch:
      state_.scr = value;
      break;
    default:
      break;  // the status registers are read-only
  }
}

void Uart16550::transmit(u8 byte) {
  if (is_loopback()) {
    enqueue(byte, false);
  } else {
    output_.put(byte);
  }
  state_.thre_pending = 1;
  update();
}

void Uart16550::write_ier(u8 value) {
  // Enabling the cause while the transmitter is empty, which it always is, raises it.
  if ((value & ~state_.ier & kIerTransmitterEmpty) != 0) state_.thre_pending = 1;
  state_.ier = value & 0x0f;
  update();
}

void Uart16550::write_fcr(u8 value) {
  const bool toggled = ((value ^ state_.fcr) & kFcrEnable) != 0;
  if (toggled || (value & kFcrResetReceiver) != 0) {
    state_.head = state_.length = 0;
    state_.breaks = 0;
  }
  state_.fcr = (value & kFcrEnable) != 0 ? value & kFcrKept : 0;
  update();
}

void Uart16550::write_mcr(u8 value) {
  const u8 before = modem_lines();
  state_.mcr = value & kMcrAll;
  const u8 changed = before ^ modem_lines();
  // Delta bits 0, 1, 3 follow any change of CTS, DSR, DCD; bit 2 only the end of a ring.
  unsigned delta = changed >> 4 & 0x0b;
  if ((changed & before & kMsrRi) != 0) delta |= 4;
  state_.modem_delta = static_cast<u8>(state_.modem_delta | delta);
  update();
}

Status Uart16550::load(const State& state) {
  if (state.version != State::kVersion) return Error("the serial port's saved state has an unknown version");
  if (state.head >= kFifoBytes || state.length > kFifoBytes) {
    return Error("the serial port's saved state is damaged: its FIFO is longer than it can be");
  }
  state_ = state;
  state_.ier &= 0x0f;
  state_.mcr &= kMcrAll;
  state_.modem_delta &= 0x0f;
  state_.overrun &= 1;
  state_.thre_pending &= 1;
  state_.fcr = (state.fcr & kFcrEnable) != 0 ? state.fcr & kFcrKept : 0;
  if (state_.length > capacity()) state_.length = static_cast<u8>(capacity());
  state_.interrupt = 0;
  irq_.set(false);
  update();
  return {};
}

}  // namespace nacre::device
