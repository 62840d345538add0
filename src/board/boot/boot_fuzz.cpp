// No kernel image reaches one of our own checks, or is read past its end; nor does what the host unpacked
// from one. The input's first two bytes say how much of the rest is the kernel; what follows is the payload.
#include "board/boot/boot.hpp"
#include "board/boot/linux_payload.hpp"
#include "board/boot/test_machine.hpp"

namespace {

using namespace nacre;
using namespace nacre::board::boot;

void check(const Status& status) {
  if (!status.ok() && status.error().message()[0] == 0) __builtin_trap();
}

void load_all_ways(const Machine& machine, Bytes kernel, Bytes payload) {
  static const Image initrd(3000, 1);
  static const Image bzimage = make_bzimage(0x2000, 4 * kMiB, 0x100000);
  const Module module = {.bytes = initrd, .command_line = "m"};
  cpu::State state;
  for (const usize modules : {usize{0}, usize{1}}) {
    Request request = {.kernel = kernel, .command_line = "x", .initrd = initrd, .unpacked = payload};
    request.random = modules * payload.size();
    request.modules = {&module, modules};
    check(load(machine, request, state));
  }
  check(load_unpacked(machine, {.kernel = bzimage}, payload, 0, state));
  check(load_unpacked(machine, {.kernel = bzimage}, payload, payload.size(), state));
}

void unpack(Bytes kernel, Bytes stream) {
  static Image plain(100'000);
  static_cast<void>(unpack_lz4(stream, plain));
  const Result<Payload> payload = find_payload(kernel);
  if (payload.ok() && payload.value().unpacked_bytes <= plain.size()) {
    static_cast<void>(
        unpack_lz4(payload.value().bytes, std::span(plain).first(payload.value().unpacked_bytes)));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const TestMachine machine(8 * kMiB);
  if (size < 2) return 0;
  const Bytes rest(data + 2, size - 2);
  const usize cut = (data[0] | usize{data[1]} << 8) % (rest.size() + 1);
  load_all_ways(machine.machine(), rest.first(cut), rest.subspan(cut));
  unpack(rest.first(cut), rest.subspan(cut));
  return 0;
}
