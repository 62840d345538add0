#include "agent/guest/user.hpp"

#include "agent/guest/process.hpp"

namespace nacre::agent {
namespace {

char file_text[256 * 1024];

// The lines of a file, taken apart at colons.
class Table {
 public:
  static constexpr unsigned kFields = 7;
  explicit Table(const char* path) {
    const long file = sys::openat(AT_FDCWD, path, O_RDONLY);
    usize length = 0;
    while (file >= 0 && length < sizeof file_text - 1) {
      const long got = sys::read(static_cast<int>(file), file_text + length, sizeof file_text - 1 - length);
      if (got <= 0) break;
      length += static_cast<usize>(got);
    }
    if (file >= 0) sys::close(static_cast<int>(file));
    file_text[length] = 0;
  }
  bool next() {
    if (*at_ == 0) return false;
    unsigned field = 0;
    field_[0] = at_;
    for (; *at_ != 0 && *at_ != '\n'; ++at_) {
      if (*at_ != ':' || field + 1 == kFields) continue;
      *at_ = 0;
      field_[++field] = at_ + 1;
    }
    if (*at_ == '\n') *at_++ = 0;
    while (++field < kFields) field_[field] = empty_;
    return true;
  }
  [[nodiscard]] char* field(unsigned i) const { return field_[i]; }

 private:
  char* at_ = file_text;
  char* field_[kFields] = {};
  char empty_[1] = {};
};

bool equal(const char* a, const char* b) {
  while (*a != 0 && *a == *b) ++a, ++b;
  return *a == *b;
}

bool number(const char* text, u32& value) {
  u64 result = 0;
  if (*text == 0) return false;
  for (; *text != 0; ++text) {
    if (*text < '0' || *text > '9' || result > 0xffff'ffff) return false;
    result = result * 10 + static_cast<u64>(*text - '0');
  }
  value = static_cast<u32>(result);
  return result < 0xffff'ffff;  // all ones mean "no change"
}

template <usize size>
void copy(char (&to)[size], const char* from) {
  usize i = 0;
  for (; from[i] != 0 && i < size - 1; ++i) to[i] = from[i];
  to[i] = 0;
}

// `name` among those that commas part.
bool contains(char* list, const char* name) {
  for (char* at = list; *at != 0;) {
    char* end = at;
    while (*end != 0 && *end != ',') ++end;
    const bool last = *end == 0;
    *end = 0;
    if (equal(at, name)) return true;
    at = last ? end : end + 1;
  }
  return false;
}

void find_groups(User& user) {
  user.groups[user.group_count++] = user.group;
  Table table("/etc/group");
  while (table.next()) {
    u32 group;
    if (user.group_count == sizeof user.groups / sizeof *user.groups) return;
    if (number(table.field(2), group) && group != user.group && contains(table.field(3), user.name))
      user.groups[user.group_count++] = group;
  }
}

}  // namespace

int find_user(const char* text, User& user) {
  const char* wanted = *text == 0 ? "root" : text;
  u32 wanted_id = 0;
  const bool by_number = number(wanted, wanted_id);
  bool found = false;
  Table table("/etc/passwd");
  while (!found && table.next()) {
    u32 id, group;
    if (!number(table.field(2), id) || !number(table.field(3), group)) continue;
    if (by_number ? id != wanted_id : !equal(table.field(0), wanted)) continue;
    found = true;
    user.id = id;
    user.group = group;
    copy(user.name, table.field(0));
    copy(user.home, table.field(5));
    if (*table.field(6) != 0) copy(user.shell, table.field(6));
  }
  if (!found && by_number) {
    user.id = user.group = wanted_id;
    copy(user.name, wanted);
  } else if (!found && !equal(wanted, "root")) {
    return ENOENT;
  }
  find_groups(user);
  return 0;
}

int become(const User& user) {
  long error = sys::call(SYS_setgroups, user.group_count, sys::address(user.groups));
  // Whoever is not root cannot become anybody; as himself he may go on.
  if (error == -EPERM && sys::call(SYS_getuid) == user.id) return 0;
  if (error == 0) error = sys::call(SYS_setresgid, user.group, user.group, user.group);
  if (error == 0) error = sys::call(SYS_setresuid, user.id, user.id, user.id);
  return static_cast<int>(-error);
}

}  // namespace nacre::agent
