#include "engine/lockstep/report.hpp"

#include <cstdio>
#include <cstring>

#include "x86/format.hpp"

namespace nacre::lockstep {
namespace {

constexpr usize kMostMemoryLines = 16;

template <typename... Arguments>
std::string formatted(const char* format, Arguments... arguments) {
  char buffer[256];
  std::snprintf(buffer, sizeof buffer, format, arguments...);
  return buffer;
}

unsigned long long wide(u64 value) {
  return value;
}

x86::CodeSize code_size(const cpu::State& state) {
  if (state.in_64bit_code()) return x86::CodeSize::Bits64;
  const bool big = (state.segment[x86::CS].attributes & cpu::SegmentAttributes::DB) != 0;
  return big ? x86::CodeSize::Bits32 : x86::CodeSize::Bits16;
}

std::string entry_text(const Entry& entry) {
  return formatted("%s of %llx, %u bytes, value %llx", name_of(entry.kind), wide(entry.where), entry.size,
                   wide(entry.value));
}

}  // namespace

usize guest_bytes(const cpu::State& state, const memory::AddressSpace& memory, u64 rip, std::span<u8> to) {
  cpu::State all_seeing = state;
  all_seeing.cr4 &= ~(x86::Cr4::SMAP | x86::Cr4::SMEP);
  const u64 linear = state.in_64bit_code() ? rip : (state.segment[x86::CS].base + rip) & 0xffffffff;
  usize got = 0;
  while (got < to.size()) {
    const auto walked = cpu::walk(all_seeing, memory, nullptr, GuestLinear(linear + got),
                                  cpu::AccessType::Read, cpu::Privilege::Supervisor);
    if (!walked) break;
    const GuestPhysical address = walked.value().address;
    const u8* host = memory.host(address, false);
    if (host == nullptr) break;
    const usize in_page = kPageSize - address.page_offset();
    const usize part = to.size() - got < in_page ? to.size() - got : in_page;
    std::memcpy(to.data() + got, host, part);
    got += part;
  }
  return got;
}

bool guest_instruction(const cpu::State& state, const memory::AddressSpace& memory, u64 rip,
                       x86::Instruction& instruction) {
  u8 bytes[16];
  const usize count = guest_bytes(state, memory, rip, bytes);
  return count != 0 && x86::decode(bytes, count, code_size(state), instruction) == x86::DecodeStatus::Ok;
}

std::string listing(const cpu::State& state, const memory::AddressSpace& memory,
                    std::span<const Place> places) {
  std::string text;
  for (const Place& place : places) {
    text += formatted("  %04x:%016llx  ", place.cs, wide(place.rip));
    x86::Instruction instruction;
    if (!guest_instruction(state, memory, place.rip, instruction)) {
      text += "(not to be read any more)\n";
      continue;
    }
    std::string bytes;
    for (unsigned i = 0; i < instruction.length; ++i) bytes += formatted("%02x ", instruction.bytes[i]);
    char shown[x86::kFormattedLength];
    x86::format(instruction, place.rip, shown, sizeof shown);
    text += formatted("%-31s %s\n", bytes.c_str(), shown);
  }
  return text;
}

std::string memory_lines(std::span<const MemoryCopy::Difference> differences) {
  std::string text;
  for (usize i = 0; i < differences.size() && i < kMostMemoryLines; ++i) {
    const MemoryCopy::Difference& one = differences[i];
    text += formatted("  [%011llx]        %016llx   %016llx\n", wide(one.physical), wide(one.running),
                      wide(one.copy));
  }
  if (differences.size() > kMostMemoryLines)
    text += formatted("  and %zu more\n", differences.size() - kMostMemoryLines);
  return text;
}

std::string question(const Replayer& replayer) {
  std::string text = "interp asked for: " + entry_text(replayer.asked()) + "\n";
  text += replayer.had_answer() ? "soft had asked for: " + entry_text(replayer.answer()) + "\n"
                                : "soft had asked for nothing more\n";
  return text;
}

}  // namespace nacre::lockstep
