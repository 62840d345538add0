#include "app/kernel_file.hpp"

#include "app/guest_assets.hpp"
#include "host/file_bytes.hpp"
#include "unpack/decompress.hpp"
#include "unpack/kernel_cache.hpp"

namespace nacre::app {

Status load_kernel(vm::Vm& vm, const std::string& path, u64 most, board::boot::Request request) {
  auto cache = cached_file("unpacked");
  const std::string folder = cache ? cache.value() : "";
  request.kernel_name = path;
  auto unpacked = unpack::find_unpacked(path.c_str(), folder);
  if (unpacked) {
    request.kernel = unpacked.header();
    request.unpacked = unpacked.vmlinux();
    if (vm.load(request).ok()) return {};
  }
  const auto kernel = TRY(host::FileBytes::read(path.c_str(), "kernel", most, "the guest's memory",
                                                "; give it more with --memory"));
  // The one that did not do just now would not do again.
  if (!unpacked)
    unpacked = unpack::unpack_kernel(kernel.bytes(), path.c_str(), folder);
  else
    unpacked = {};
  request.kernel = kernel.bytes();
  host::Mapping plain;
  if (unpack::is_gzip(request.kernel)) {
    plain = TRY(unpack::gunzip(request.kernel, most));
    request.kernel = {plain.data(), plain.size()};
  }
  request.unpacked = unpacked.vmlinux();
  return vm.load(request);
}

}  // namespace nacre::app
