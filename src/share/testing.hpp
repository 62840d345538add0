// Test support: a folder, a server for it in this process, and a guest's driver that asks it.
//
//   Shared shared;                       // shared.path + "/root" is the folder, beside it "secret"
//   Client client(shared);
//   const fuse_entry_out file = client.look_up(1, "file").value();
#pragma once

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "share/server.hpp"

namespace nacre::share::testing {

struct Shared {
  std::string path;
  std::string root;

  explicit Shared(const char* parent = "/tmp") {
    path = std::string(parent) + "/nacre-share-XXXXXX";
    NACRE_CHECK(mkdtemp(path.data()) != nullptr);
    root = path + "/root";
    std::filesystem::create_directories(root);
    std::filesystem::create_directories(path + "/secret");
    put("../secret/file", "SECRET");
  }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  void put(const std::string& name, const std::string& text) const {
    std::ofstream(root + "/" + name) << text;
  }
  [[nodiscard]] std::string text_of(const std::string& name) const {
    std::ifstream file(root + "/" + name);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  [[nodiscard]] std::unique_ptr<Server> serve(const ServerOptions& options = {}) const {
    host::UniqueFd folder(open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    host::UniqueFd descriptors(open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC));
    return Server::create(std::move(folder), std::move(descriptors), options).take();
  }
};

// A request's bytes, put together.
class Bytes {
 public:
  Bytes() = default;
  template <typename T>
  Bytes& add(const T& value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& text(const std::string& value) {
    text_.append(value.c_str(), value.size() + 1);
    return *this;
  }
  Bytes& raw(const std::string& value) {
    text_ += value;
    return *this;
  }
  [[nodiscard]] const std::string& str() const { return text_; }

 private:
  std::string text_;
};

inline fuse_read_in reading(u64 handle, u64 offset, u32 size) {
  fuse_read_in in = {};
  in.fh = handle;
  in.offset = offset;
  in.size = size;
  return in;
}

class Client {
 public:
  explicit Client(const Shared& shared, const ServerOptions& options = {}) : server_(shared.serve(options)) {
    NACRE_CHECK(ask(FUSE_INIT, 0, Bytes().add(init()).str()) == 0);
  }
  Server& server() { return *server_; }

  static fuse_init_in init() {
    fuse_init_in in = {};
    in.major = FUSE_KERNEL_VERSION;
    in.minor = FUSE_KERNEL_MINOR_VERSION;
    in.flags = ~0u;
    in.max_readahead = 128 * 1024;
    return in;
  }

  // The error, or 0; then answer() has what came.
  int ask(u32 operation, u64 inode, const std::string& arguments = {}, usize room = 8192) {
    fuse_in_header header = {};
    header.len = static_cast<u32>(sizeof header + arguments.size());
    header.opcode = operation;
    header.unique = ++unique_;
    header.nodeid = inode;
    return ask_raw(Bytes().add(header).raw(arguments).str(), room);
  }
  // Whatever is said. -1: there was no answer.
  int ask_raw(std::string request, usize room = 8192) {
    std::string out(room, '\xee');
    // In pieces, as a driver has it.
    const usize half = request.size() / 2;
    const iovec in[] = {{request.data(), half}, {request.data() + half, request.size() - half}};
    const usize first = std::min<usize>(room, 7);
    const iovec pieces[] = {{out.data(), first}, {out.data() + first, room - first}};
    const u32 written = server_->serve(in, pieces);
    NACRE_CHECK(written <= room);
    if (written == 0) return -1;
    fuse_out_header header = {};
    NACRE_CHECK(written >= sizeof header);
    std::memcpy(&header, out.data(), sizeof header);
    NACRE_CHECK(header.len == written && header.error <= 0);
    answer_ = out.substr(sizeof header, written - sizeof header);
    return -header.error;
  }
  [[nodiscard]] const std::string& answer() const { return answer_; }
  template <typename T>
  [[nodiscard]] T as(usize at = 0) const {
    T value = {};
    NACRE_CHECK(answer_.size() >= at + sizeof value);
    std::memcpy(&value, answer_.data() + at, sizeof value);
    return value;
  }

  Result<fuse_entry_out, int> look_up(u64 folder, const std::string& name) {
    if (const int failed = ask(FUSE_LOOKUP, folder, Bytes().text(name).str()); failed != 0) return failed;
    return as<fuse_entry_out>();
  }
  // Through several folders.
  u64 walk(const std::vector<std::string>& names) {
    u64 at = FUSE_ROOT_ID;
    for (const std::string& name : names) at = look_up(at, name).value().nodeid;
    return at;
  }
  void forget(u64 inode, u64 lookups = 1) {
    ask(FUSE_FORGET, inode, Bytes().add(fuse_forget_in{lookups}).str());
  }
  Result<fuse_attr, int> attributes(u64 inode) {
    if (const int failed = ask(FUSE_GETATTR, inode, Bytes().add(fuse_getattr_in{}).str()); failed != 0)
      return failed;
    return as<fuse_attr_out>().attr;
  }
  Result<u64, int> open_file(u64 inode, u32 flags = O_RDWR) {
    if (const int failed = ask(FUSE_OPEN, inode, Bytes().add(fuse_open_in{flags, 0}).str()); failed != 0)
      return failed;
    return as<fuse_open_out>().fh;
  }
  Result<std::string, int> read(u64 inode, u64 handle, u64 offset = 0, u32 size = 4096) {
    if (const int failed = ask(FUSE_READ, inode, Bytes().add(reading(handle, offset, size)).str(), size + 16);
        failed != 0)
      return failed;
    return answer_;
  }
  int write(u64 inode, u64 handle, const std::string& text, u64 offset = 0, u32 flags = 0,
            u32 write_flags = 0) {
    fuse_write_in in = {};
    in.fh = handle;
    in.offset = offset;
    in.size = static_cast<u32>(text.size());
    in.flags = flags;
    in.write_flags = write_flags;
    return ask(FUSE_WRITE, inode, Bytes().add(in).raw(text).str());
  }
  int release(u64 inode, u64 handle) {
    fuse_release_in in = {};
    in.fh = handle;
    return ask(FUSE_RELEASE, inode, Bytes().add(in).str());
  }
  Result<std::pair<u64, u64>, int> create(u64 folder, const std::string& name, u32 mode = 0644,
                                          u32 flags = O_RDWR | O_EXCL) {
    fuse_create_in in = {};
    in.flags = flags;
    in.mode = mode;
    if (const int failed = ask(FUSE_CREATE, folder, Bytes().add(in).text(name).str()); failed != 0)
      return failed;
    return std::pair(as<fuse_entry_out>().nodeid, as<fuse_open_out>(sizeof(fuse_entry_out)).fh);
  }
  int make_folder(u64 folder, const std::string& name) {
    return ask(FUSE_MKDIR, folder, Bytes().add(fuse_mkdir_in{0755, 0}).text(name).str());
  }
  int rename(u64 folder, const std::string& name, u64 new_folder, const std::string& new_name,
             u32 flags = 0) {
    return ask(FUSE_RENAME2, folder,
               Bytes().add(fuse_rename2_in{new_folder, flags, 0}).text(name).text(new_name).str());
  }
  int remove(u64 folder, const std::string& name) {
    return ask(FUSE_UNLINK, folder, Bytes().text(name).str());
  }

 private:
  std::unique_ptr<Server> server_;
  u64 unique_ = 0;
  std::string answer_;
};

// Names that are open in this process below `path`, without `allowed` at their beginning.
inline std::vector<std::string> open_below(const std::string& path, const std::string& allowed) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    const std::string target = std::filesystem::read_symlink(entry.path(), ignored);
    if (target.starts_with(path) && !target.starts_with(allowed)) names.push_back(target);
  }
  return names;
}

}  // namespace nacre::share::testing
