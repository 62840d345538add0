// Process 1 of a guest whose system is on a disk, until that system's own takes over: loads the modules that
// stand between the kernel and the disk, mounts it, and goes on as its /sbin/init. It stands in for the
// initial RAM disk that a distribution makes (some 20 MB to unpack at each start). No C library: a few
// kilobytes.
//
// In its archive: /modules/NAME.ko, and /modules/order with a NAME.ko per line. From the kernel's command
// line: root=DEVICE, rw (without it the file system is mounted for reading only, as systemd wants it for its
// check), rootfstype=TYPE (ext4), init=PATH.
#include "app/agent/system.hpp"

#include <linux/mount.h>

using namespace nacre::agent;  // NOLINT: this file is one small program

namespace {

constexpr std::size_t kMostText = 16 * 1024;
constexpr long kWaitMilliseconds = 10'000, kStep = 2;

constexpr std::size_t kMostPath = 512;
char command_line[kMostText], order[kMostText], units[kMostText];

std::size_t length_of(const char* text) {
  std::size_t length = 0;
  while (text[length] != 0) ++length;
  return length;
}

void say(const char* text) {
  write(2, text, length_of(text));
}

// What cannot be done ends process 1, which the kernel calls a panic: the one thing that nobody overlooks.
[[noreturn]] void give_up(const char* what, const char* subject, long error) {
  char number[] = "000";
  const long positive = -error;
  number[0] = static_cast<char>('0' + positive / 100 % 10);
  number[1] = static_cast<char>('0' + positive / 10 % 10);
  number[2] = static_cast<char>('0' + positive % 10);
  const char* const parts[] = {"nacre: ", what, " ", subject, ": error ", number, "\n"};
  for (const char* part : parts) say(part);
  exit(1);
}

// The text of a small file, zero-ended; empty if it cannot be read.
void read_text(const char* path, char (&to)[kMostText]) {
  const long file = open(path, O_RDONLY);
  if (file < 0) return;
  std::size_t length = 0;
  for (;;) {
    const long got = read(static_cast<int>(file), to + length, kMostText - 1 - length);
    if (got <= 0) break;
    length += static_cast<std::size_t>(got);
  }
  close(static_cast<int>(file));
  to[length] = 0;
}

// Cuts text at the characters of `ends` and gives each part that is not empty to `use`.
template <typename Use>
void for_each_part(char* text, const char* ends, Use use) {
  const auto is_end = [ends](char c) {
    for (const char* at = ends; *at != 0; ++at) {
      if (c == *at) return true;
    }
    return false;
  };
  while (*text != 0) {
    char* end = text;
    while (*end != 0 && !is_end(*end)) ++end;
    const bool last = *end == 0;
    *end = 0;
    if (*text != 0) use(text);
    if (last) return;
    text = end + 1;
  }
}

// What follows `name` in `word`, or null.
const char* value_of(const char* word, const char* name) {
  while (*name != 0) {
    if (*word++ != *name++) return nullptr;
  }
  return word;
}

bool same(const char* a, const char* b) {
  const char* rest = value_of(a, b);
  return rest != nullptr && *rest == 0;
}

void load_modules() {
  read_text("/modules/order", order);
  for_each_part(order, "\n", [](char* name) {
    char path[256] = "/modules/";
    std::size_t at = length_of(path);
    for (const char* from = name; *from != 0 && at < sizeof path - 1; ++from) path[at++] = *from;
    path[at] = 0;
    const long file = open(path, O_RDONLY);
    const long result = file < 0 ? file : load_module(static_cast<int>(file));
    // Not fatal: what is missing shows when the disk does not appear.
    if (result < 0 && result != -EEXIST) say("nacre: a module could not be loaded: "), say(name), say("\n");
    if (file >= 0) close(static_cast<int>(file));
    unlink(path);  // it is memory
  });
  unlink("/modules/order");
  rmdir("/modules");
}

void copy(const char* from, const char* to, int permissions) {
  const long source = open(from, O_RDONLY);
  if (source < 0) return;
  const long target = create(to, permissions);
  for (long got; target >= 0 && (got = read(static_cast<int>(source), order, sizeof order)) > 0;)
    write(static_cast<int>(target), order, static_cast<std::size_t>(got));
  close(static_cast<int>(source));
  if (target >= 0) close(static_cast<int>(target));
  unlink(from);
}

// The agent goes into /run, which is memory, with a unit that starts it: so it is always the one of the nacre that runs
// the guest, and the disk has nothing of it. systemd leaves a /run alone that is there already.
void place_agent() {
  if (mount_with("tmpfs", "/root/run", "tmpfs", MS_NOSUID | MS_NODEV | MS_STRICTATIME, "mode=755,size=20%") < 0) return;
  static constexpr const char* kFolders[] = {"/root/run/nacre", "/root/run/systemd", "/root/run/systemd/system",
                                             "/root/run/systemd/system/multi-user.target.wants"};
  for (const char* folder : kFolders) mkdir(folder, 0755);
  copy("/nacre-agent", "/root/run/nacre/agent", 0755);
  copy("/nacre-agent.service", "/root/run/systemd/system/nacre-agent.service", 0644);
  symlink("../nacre-agent.service", "/root/run/systemd/system/multi-user.target.wants/nacre-agent.service");
}

// The same for folders of the host that are to be mounted.
void place_mounts() {
  read_text("/units/list", units);
  for_each_part(units, "\n", [](char* name) {
    const auto join = [name](char (&whole)[kMostPath], const char* folder) {
      std::size_t at = 0;
      while (*folder != 0 && at < kMostPath - 1) whole[at++] = *folder++;
      for (const char* rest = name; *rest != 0 && at < kMostPath - 1;) whole[at++] = *rest++;
      whole[at] = 0;
    };
    char from[kMostPath], to[kMostPath], link[kMostPath], wanted[kMostPath];
    join(from, "/units/");
    join(to, "/root/run/systemd/system/");
    join(link, "/root/run/systemd/system/multi-user.target.wants/");
    join(wanted, "../");
    copy(from, to, 0644);
    symlink(wanted, link);
  });
  unlink("/units/list");
  rmdir("/units");
}

struct Wishes {
  const char* root = "/dev/vda";
  const char* type = "ext4";
  const char* init = "/sbin/init";
  unsigned long flags = MS_RDONLY;
};

Wishes read_wishes() {
  Wishes wishes;
  read_text("/proc/cmdline", command_line);
  for_each_part(command_line, " \n", [&wishes](char* word) {
    if (const char* value = value_of(word, "root=")) wishes.root = value;
    if (const char* value = value_of(word, "rootfstype=")) wishes.type = value;
    if (const char* value = value_of(word, "init=")) wishes.init = value;
    if (same(word, "rw")) wishes.flags = 0;
    if (same(word, "ro")) wishes.flags = MS_RDONLY;
  });
  return wishes;
}

}  // namespace

extern "C" [[noreturn]] void start_init(char** environment) {
  mkdir("/proc", 0755);
  mkdir("/dev", 0755);
  mkdir("/root", 0755);
  mount("proc", "/proc", "proc");
  mount("dev", "/dev", "devtmpfs");
  load_modules();
  const Wishes wishes = read_wishes();
  // The disk's driver looks at it by itself: its node comes a moment after the module.
  long result = -ENOENT;
  for (long waited = 0; waited < kWaitMilliseconds; waited += kStep) {
    result = mount_with(wishes.root, "/root", wishes.type, wishes.flags);
    if (result != -ENOENT && result != -ENXIO) break;
    sleep_milliseconds(kStep);
  }
  if (result < 0) give_up("cannot mount", wishes.root, result);
  place_agent();
  place_mounts();
  mount_with("/dev", "/root/dev", nullptr, MS_MOVE);
  mount_with("/proc", "/root/proc", nullptr, MS_MOVE);
  chdir("/root");
  if (result = mount_with(".", "/", nullptr, MS_MOVE); result < 0)
    give_up("cannot move", wishes.root, result);
  chroot(".");
  chdir("/");
  char name[256] = {};
  for (std::size_t i = 0; i < sizeof name - 1 && wishes.init[i] != 0; ++i) name[i] = wishes.init[i];
  char* const words[] = {name, nullptr};
  result = execve(name, words, environment);
  give_up("cannot run", name, result);
}

// The stack at the start: the number of words, the words, null, the environment. System V ABI, x86-64, 3.4.1.
__asm__(
    ".globl _start\n"
    "_start:\n"
    "  mov (%rsp), %rax\n"
    "  lea 16(%rsp,%rax,8), %rdi\n"
    "  and $-16, %rsp\n"
    "  call start_init\n");
