// No sequence of accesses by a guest reaches one of our own checks, or hangs a device.
#include <cstring>

#include "board/test_environment.hpp"

namespace nacre::board {
namespace {

// One step: what, where (16 bits, spread over the windows), with which value and size.
struct Step {
  u8 what, size;
  u16 where;
  u32 value;
};

void run(TestBoard& board, const Step& step) {
  cpu::Platform& cpu = board.cpu(step.what >> 7);
  const unsigned size = 1u << (step.size & 3);
  constexpr u64 windows[] = {kIoApicBase, kLocalApicBase, kEcamBase, kVgaHole};
  const GuestPhysical address(windows[step.where >> 14] + (step.where & 0x3fff));
  const u32 msr = (step.where & 0x8000) != 0 ? 0x4b564d00 + (step.where & 7) : u32{step.where} & 0xfff;
  u64 value = u64{step.value} << (step.size >> 2);
  switch (step.what & 0x7f) {
    case 0:
      static_cast<void>(cpu.mmio_read(address, size));
      break;
    case 1:
      cpu.mmio_write(address, size, value);
      break;
    case 2:
      static_cast<void>(cpu.port_read(step.where, size > 4 ? 4 : size));
      break;
    case 3:
      cpu.port_write(step.where, size > 4 ? 4 : size, step.value);
      break;
    case 4:
      static_cast<void>(cpu.msr_read(msr, value));
      break;
    case 5:
      static_cast<void>(cpu.msr_write(msr, value));
      break;
    case 6:
      board.environment.time += value & 0xffffffffff;
      board->advance();
      break;
    case 7:
      static_cast<void>(cpu.acknowledge_interrupt());
      break;
    case 8:
      cpu.set_task_priority(step.value & 0xf);
      break;
    case 9:
      board->reset();
      break;
    case 10:
      static_cast<void>(board->serial_input(step.where & 1, {reinterpret_cast<const u8*>(&step.value), 4}));
      break;
    case 11:
      board->press_power_button();
      break;
    case 12:
      static_cast<void>(cpu.hypercall({.number = step.size & 15u,
                                       .argument = {value, value >> 8, step.where, step.value},
                                       .wide = step.size < 128}));
      break;
    default:
      static_cast<void>(board->next_deadline());
  }
}

}  // namespace
}  // namespace nacre::board

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nacre::board;
  TestBoard board({.memory_bytes = 2 * nacre::kMiB,
                   .processors = 2,
                   .serial_ports = 2,
                   .debug_exit = true,
                   .test_device = true,
                   .debug_ports = {0xe9},
                   .debug_port_count = 1,
                   .post_port = 0x190});
  for (Step step; size >= sizeof step; data += sizeof step, size -= sizeof step) {
    std::memcpy(&step, data, sizeof step);
    run(board, step);
  }
  return 0;
}
