#include "board/boot/text.hpp"

#include "board/boot/start_state.hpp"

namespace nacre::board::boot {

Result<u64> place_text(const Machine& machine, Placer& placer, std::string_view first,
                       std::string_view second, u64 limit, const char* what) {
  const bool space = !first.empty() && !second.empty();
  const u64 length = first.size() + (space ? 1 : 0) + second.size();
  if (length > limit) {
    return Error(what)
        .append(" has ")
        .append_number(length)
        .append(" characters, this kernel takes ")
        .append_number(limit)
        .append("; shorten it");
  }
  if (first.find('\0') != first.npos || second.find('\0') != second.npos) {
    return Error(what).append(" has a zero byte in it; take it out");
  }
  const u64 address = TRY(placer.lowest(length + 1, 16, kStructuresLow, kStructuresHigh, what));
  u64 at = address;
  const auto put = [&](std::string_view text) {
    NACRE_CHECK(machine.memory.write(GuestPhysical(at), text.data(), text.size()));
    at += text.size();
  };
  put(first);
  if (space) put(" ");
  put(second);
  put({"", 1});
  return address;
}

}  // namespace nacre::board::boot
