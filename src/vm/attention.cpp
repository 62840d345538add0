#include "vm/attention.hpp"

#include "host/error.hpp"

namespace nacre::vm {

Result<Attention> Attention::create() {
  host::UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return host::errno_error("Cannot make an event");
  return Attention(std::move(event));
}

void Attention::signal() {
  const u64 one = 1;
  [[maybe_unused]] const ssize_t written = write(event_.number(), &one, sizeof one);
}

void Attention::clear() {
  u64 count = 0;
  [[maybe_unused]] const ssize_t got = read(event_.number(), &count, sizeof count);
  raised_.store(false);
}

}  // namespace nacre::vm
