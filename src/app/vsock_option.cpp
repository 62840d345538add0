#include "app/vsock_option.hpp"

#include <charconv>

namespace nacre::app {

Result<vm::VsockConfig> parse_vsock(const std::string& text) {
  vm::VsockConfig config;
  config.path = text;
  constexpr std::string_view kCid = ",cid=";
  if (const usize at = text.rfind(kCid); at != std::string::npos) {
    config.path = text.substr(0, at);
    const char* digits = text.c_str() + at + kCid.size();
    const char* end = text.c_str() + text.size();
    const auto [stop, error] = std::from_chars(digits, end, config.guest_cid);
    // 0 to 2 and the last have meanings of their own. Virtio 1.2, 5.10.4.
    if (error != std::errc() || stop != end || config.guest_cid < 3 || config.guest_cid == 0xffff'ffff)
      return Error{"--vsock takes a cid from 3 to 4294967294, as in --vsock vm.sock,cid=3."};
  }
  return config;
}

}  // namespace nacre::app
