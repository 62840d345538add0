#include "device/i8042/i8042.hpp"

#include <type_traits>

namespace nacre::device {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<I8042::State>);

namespace {

// The command byte, RAM byte 0.
constexpr u8 kKeyboardInterrupt = 1 << 0, kAuxInterrupt = 1 << 1, kSystem = 1 << 2, kKeyboardOff = 1 << 4,
             kAuxOff = 1 << 5, kTranslate = 1 << 6;
// The output port. A20 is always on: its bit is only remembered.
constexpr u8 kNotReset = 1 << 0, kA20 = 1 << 1;

enum : u8 {
  ReadRam = 0x20,   // ..3fh
  WriteRam = 0x60,  // ..7fh
  DisableAux = 0xa7,
  EnableAux = 0xa8,
  TestAux = 0xa9,
  SelfTest = 0xaa,
  TestKeyboard = 0xab,
  DisableKeyboard = 0xad,
  EnableKeyboard = 0xae,
  ReadInputPort = 0xc0,
  ReadOutputPort = 0xd0,
  WriteOutputPort = 0xd1,
  EchoAsKeyboard = 0xd2,
  EchoAsAux = 0xd3,
  SendToAux = 0xd4,
  ReadTestInputs = 0xe0,
  Pulse = 0xf0,  // ..ffh: zero bits pulse output port bits low
};

constexpr u8 kSelfTestPassed = 0x55, kInterfaceFine = 0x00, kClockStuckLow = 0x01, kResend = 0xfe;

}  // namespace

void I8042::reset() {
  state_ = State{};
  state_.ram[0] = kKeyboardInterrupt | kSystem | kAuxOff | kTranslate;  // as firmware leaves it
  state_.output_port = kNotReset | kA20;
  update();
}

void I8042::update() {
  const bool full = state_.length != 0;
  const bool aux = (state_.flags[state_.head] & kAuxData) != 0;
  ports_.irq1.set(full && !aux && (state_.ram[0] & kKeyboardInterrupt) != 0);
  ports_.irq12.set(full && aux && (state_.ram[0] & kAuxInterrupt) != 0);
}

void I8042::push(u8 byte, u8 flags) {
  if (state_.length == kQueueBytes) return;  // the guest did not read: the byte is lost
  const unsigned slot = (state_.head + state_.length++) % kQueueBytes;
  state_.data[slot] = byte;
  state_.flags[slot] = flags;
}

u8 I8042::read_status() const {
  unsigned status = kNotLocked;
  if ((state_.ram[0] & kSystem) != 0) status |= kSystemFlag;
  if (state_.last_was_command != 0) status |= kCommandLast;
  if (state_.length != 0) status |= kOutputFull | state_.flags[state_.head];
  return static_cast<u8>(status);
}

u8 I8042::read_data() {
  const u8 byte = state_.data[state_.head];
  if (state_.length == 0) return byte;
  state_.head = static_cast<u8>((state_.head + 1) % kQueueBytes);
  --state_.length;
  // Each byte is an edge of its own.
  ports_.irq1.lower();
  ports_.irq12.lower();
  update();
  return byte;
}

void I8042::write_command(u8 value) {
  state_.last_was_command = 1;
  state_.pending_command = 0;
  execute(value);
  update();
}

void I8042::execute(u8 command) {
  u8& mode = state_.ram[0];
  if (command >= ReadRam && command < ReadRam + kRamBytes) return push(state_.ram[command - ReadRam], 0);
  if (command >= Pulse) {
    if ((command & kNotReset) == 0) ports_.power.reset();
    return;
  }
  switch (command) {
    case DisableAux:
      mode |= kAuxOff;
      break;
    case EnableAux:
      mode &= static_cast<u8>(~kAuxOff);
      break;
    case TestAux:
      push(kClockStuckLow, 0);
      break;
    case SelfTest:
      mode |= kSystem;
      push(kSelfTestPassed, 0);
      break;
    case TestKeyboard:
      push(kInterfaceFine, 0);
      break;
    case DisableKeyboard:
      mode |= kKeyboardOff;
      break;
    case EnableKeyboard:
      mode &= static_cast<u8>(~kKeyboardOff);
      break;
    case ReadInputPort:
      push(0x80, 0);
      break;  // keyboard not locked
    case ReadOutputPort:
      push(state_.output_port | (state_.length != 0 ? 0x10 : 0), 0);
      break;
    case ReadTestInputs:
      push(0, 0);
      break;
    case WriteOutputPort:
    case EchoAsKeyboard:
    case EchoAsAux:
    case SendToAux:
      state_.pending_command = command;
      break;
    default:
      if (command >= WriteRam && command < WriteRam + kRamBytes) state_.pending_command = command;
      break;  // unknown commands do nothing
  }
}

void I8042::write_data(u8 value) {
  state_.last_was_command = 0;
  const u8 command = state_.pending_command;
  state_.pending_command = 0;
  if (command != 0) {
    complete(command, value);
  } else {
    state_.ram[0] &= static_cast<u8>(~kKeyboardOff);  // sending enables the interface
    push(kResend, kTimeout);
  }
  update();
}

void I8042::complete(u8 command, u8 data) {
  switch (command) {
    case WriteOutputPort:
      write_output_port(data);
      break;
    case EchoAsKeyboard:
      push(data, 0);
      break;
    // Without the aux bit in the status, as on a controller that has no such port: Linux's probe takes
    // this, and TestAux failing, for "no mouse port" without waiting for anything.
    case EchoAsAux:
      push(data, 0);
      break;
    case SendToAux:
      push(kResend, kAuxData | kTimeout);
      break;
    default:
      state_.ram[command - WriteRam] = data;
      break;
  }
}

void I8042::write_output_port(u8 value) {
  state_.output_port = value;
  if ((value & kNotReset) == 0) ports_.power.reset();
}

Status I8042::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the keyboard controller's saved state has an unknown version");
  const u8 pending = state.pending_command;
  const bool pending_ok = pending == 0 || (pending >= WriteRam && pending < WriteRam + kRamBytes) ||
                          (pending >= WriteOutputPort && pending <= SendToAux);
  if (state.head >= kQueueBytes || state.length > kQueueBytes || !pending_ok) {
    return Error("the keyboard controller's saved state is damaged: its queue or command is out of range");
  }
  state_ = state;
  for (u8& flags : state_.flags) flags &= kAuxData | kTimeout;
  update();
  return {};
}

}  // namespace nacre::device
