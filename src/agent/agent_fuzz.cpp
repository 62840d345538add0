// What a hostile guest may answer, to the host's side: a copy out of the guest, and frames as `nacre exec`
// takes them. The copy goes to a folder in which a link leads out; nothing may go through it.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "agent/client.hpp"
#include "base/check.hpp"

namespace {

using namespace nacre;
using namespace nacre::agent;

struct Folder {
  std::string path = [] {
    char name[] = "/tmp/nacre-agent-fuzz-XXXXXX";
    NACRE_CHECK(mkdtemp(name) != nullptr);
    return std::string(name);
  }();
  Folder() { std::filesystem::create_directories(path + "/outside"); }
  ~Folder() { std::filesystem::remove_all(path); }
  void clear() const {
    std::filesystem::remove_all(path + "/in");
    std::filesystem::create_directories(path + "/in");
    std::filesystem::create_directory_symlink("../outside", path + "/in/a");
  }
};

host::UniqueFd file_of(const u8* data, usize size) {
  host::UniqueFd file(memfd_create("frames", MFD_CLOEXEC));
  NACRE_CHECK(write(file.number(), data, size) == static_cast<ssize_t>(size));
  NACRE_CHECK(lseek(file.number(), 0, SEEK_SET) == 0);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, usize size) {
  static const Folder folder;
  folder.clear();
  const auto bytes = file_of(data, size);
  auto wire = std::make_unique<Wire>(bytes.number());
  auto receiver = std::make_unique<TreeReceiver>();
  NACRE_CHECK(receiver->place((folder.path + "/in").c_str(), true) == 0);
  while (wire->receive() && receiver->take(wire->type(), wire->payload(), wire->bytes())) {
  }
  receiver.reset();
  NACRE_CHECK(std::filesystem::is_empty(folder.path + "/outside"));

  lseek(bytes.number(), 0, SEEK_SET);
  auto parser = std::make_unique<FrameParser>();
  for (unsigned i = 0; i < 1000 && parser->read(bytes.number()) == FrameParser::Step::Frame; ++i) {
    Payload payload(*parser);
    NACRE_CHECK(payload.left() <= kMostPayload);
    static_cast<void>(payload.value<u32>());
    static_cast<void>(printable(payload.text()));
  }
  return 0;
}
