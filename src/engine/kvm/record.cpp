#include "engine/kvm/record.hpp"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <iterator>
#include <vector>

namespace nacre::kvm {

const char* name_of(ExitKind kind) {
  constexpr const char* kNames[] = {"port read", "port write", "memory read", "memory write", "msr read", "msr write", "halt",
                                    "interrupt window", "end of interrupt", "signal", "no emulation", "debug", "other"};
  static_assert(std::size(kNames) == static_cast<usize>(ExitKind::count));
  return kNames[static_cast<usize>(kind)];
}

ExitCounters::ExitCounters() {
  named[0] = {"exits", &all};
  for (usize i = 0; i < std::size(by_kind); ++i) named[i + 1] = {name_of(static_cast<ExitKind>(i)), &by_kind[i]};
}

std::unique_ptr<Record> Record::create(unsigned processor) {
  const char* prefix = getenv("NACRE_KVM_RECORD");
  if (prefix == nullptr) return nullptr;
  const std::string number = processor == 0 ? "" : "." + std::to_string(processor);
  auto file = host::open_for_writing((prefix + number + ".txt").c_str());
  return file ? std::make_unique<Record>(file.take()) : nullptr;
}

Record::~Record() {
  std::vector<std::pair<u64, std::pair<ExitKind, u64>>> sorted;
  u64 all = 0;
  for (const auto& [what, count] : counts_) sorted.emplace_back(count, what), all += count;
  std::sort(sorted.rbegin(), sorted.rend());
  std::string text = std::to_string(all) + " all\n";
  for (const auto& [count, what] : sorted) {
    char number[24];
    *std::to_chars(number, number + sizeof number - 1, what.second, 16).ptr = 0;
    text += std::to_string(count) + " " + name_of(what.first) + " " + number + "\n";
  }
  host::write_all(file_.number(), {reinterpret_cast<const u8*>(text.data()), text.size()});
}

}  // namespace nacre::kvm
