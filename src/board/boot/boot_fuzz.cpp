// No kernel image reaches one of our own checks, or is read past its end.
#include "board/boot/boot.hpp"
#include "board/boot/test_machine.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace nacre;
  using namespace nacre::board::boot;
  static const TestMachine machine(8 * kMiB);
  static const Image initrd(3000, 1);
  const Module module = {.bytes = initrd, .command_line = "m"};
  cpu::State state;
  for (const usize modules : {usize{0}, usize{1}}) {
    const Request request = {
        .kernel = {data, size}, .command_line = "x", .initrd = initrd, .modules = {&module, modules}};
    const Status status = load(machine.machine(), request, state);
    if (!status.ok() && status.error().message()[0] == 0) __builtin_trap();
  }
  return 0;
}
