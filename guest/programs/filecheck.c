// A file system under what programs do with it: filecheck [DIRECTORY [ROUNDS [SEED]]]. Names, links, open files that
// have none, mappings shared between processes, locks; then ROUNDS random operations on one file and on a tree, each
// compared with a model of what they must leave. Works on any Linux file system.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *doing = "";
#define CHECK(condition) ((condition) ? (void)0 : broken(#condition, __LINE__))

static void broken(const char *what, int line) {
  printf("filecheck: %s: line %d: %s (%s)\n", doing, line, what, strerror(errno));
  exit(1);
}

static uint64_t state;
static uint32_t random_below(uint32_t limit) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 33) % limit;
}

static void put(const char *name, const char *text) {
  const int file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  CHECK(file >= 0);
  CHECK(write(file, text, strlen(text)) == (ssize_t)strlen(text));
  CHECK(close(file) == 0);
}

static void expect(const char *name, const char *text) {
  char bytes[4096];
  const int file = open(name, O_RDONLY);
  CHECK(file >= 0);
  const ssize_t got = read(file, bytes, sizeof bytes);
  CHECK(got == (ssize_t)strlen(text) && memcmp(bytes, text, (size_t)got) == 0);
  close(file);
}

static void end_of(pid_t child) {
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void names(void) {
  doing = "names";
  struct stat one, other;
  put("a", "first");
  CHECK(open("a", O_WRONLY | O_CREAT | O_EXCL, 0644) < 0 && errno == EEXIST);
  CHECK(link("a", "b") == 0 && stat("a", &one) == 0 && stat("b", &other) == 0);
  CHECK(one.st_ino == other.st_ino && other.st_nlink == 2);
  CHECK(unlink("a") == 0 && stat("b", &one) == 0 && one.st_nlink == 1 && one.st_ino == other.st_ino);
  expect("b", "first");
  put("c", "second");
  CHECK(rename("b", "c") == 0 && access("b", F_OK) < 0 && errno == ENOENT);
  expect("c", "first");
  put("d", "third");
  CHECK(renameat2(AT_FDCWD, "c", AT_FDCWD, "d", RENAME_NOREPLACE) < 0 && errno == EEXIST);
  CHECK(renameat2(AT_FDCWD, "c", AT_FDCWD, "d", RENAME_EXCHANGE) == 0);
  expect("c", "third");
  expect("d", "first");
  CHECK(mkdir("folder", 0755) == 0 && mkdir("folder/inner", 0700) == 0);
  put("folder/inner/file", "deep");
  CHECK(rmdir("folder") < 0 && errno == ENOTEMPTY);
  CHECK(rename("folder", "moved") == 0);
  expect("moved/inner/file", "deep");
  CHECK(rename("moved", "moved/inner/itself") < 0 && errno == EINVAL);
  char target[100] = {0};
  CHECK(symlink("moved/inner/file", "link") == 0 && readlink("link", target, sizeof target) == 16);
  expect("link", "deep");
  CHECK(open("link", O_RDONLY | O_NOFOLLOW) < 0 && errno == ELOOP);
  CHECK(symlink("nowhere", "dangling") == 0 && open("dangling", O_RDONLY) < 0 && errno == ENOENT);
  CHECK(mkfifo("pipe", 0600) == 0 && stat("pipe", &one) == 0 && S_ISFIFO(one.st_mode));
  const int in = open("pipe", O_RDONLY | O_NONBLOCK), out = open("pipe", O_WRONLY);
  CHECK(in >= 0 && out >= 0 && write(out, "x", 1) == 1 && read(in, target, 1) == 1);
  close(in), close(out);
  CHECK(chmod("c", 0640) == 0 && stat("c", &one) == 0 && (one.st_mode & 07777) == 0640);
  const struct timespec times[2] = {{1000000000, 5}, {1234567890, 123456789}};
  CHECK(utimensat(AT_FDCWD, "c", times, 0) == 0 && stat("c", &one) == 0 && one.st_mtim.tv_sec == 1234567890 && one.st_mtim.tv_nsec == 123456789);
  char longest[300];
  memset(longest, 'n', sizeof longest);
  longest[255] = 0;
  put(longest, "long");
  expect(longest, "long");
  longest[255] = 'n', longest[256] = 0;
  CHECK(open(longest, O_RDONLY) < 0 && errno == ENAMETOOLONG);
  longest[255] = 0;
  CHECK(unlink(longest) == 0 && unlink("c") == 0 && unlink("d") == 0 && unlink("link") == 0 && unlink("dangling") == 0 && unlink("pipe") == 0);
  CHECK(unlink("moved/inner/file") == 0 && rmdir("moved/inner") == 0 && rmdir("moved") == 0);
}

static void without_name(void) {
  doing = "open files without a name";
  struct stat status;
  char bytes[8] = {0};
  const int file = open("gone", O_RDWR | O_CREAT, 0600);
  CHECK(file >= 0 && unlink("gone") == 0 && access("gone", F_OK) < 0);
  CHECK(write(file, "still", 5) == 5 && pread(file, bytes, 8, 0) == 5 && memcmp(bytes, "still", 5) == 0);
  CHECK(fstat(file, &status) == 0 && status.st_size == 5 && status.st_nlink == 0);
  CHECK(ftruncate(file, 2) == 0 && fchmod(file, 0400) == 0 && fstat(file, &status) == 0 && status.st_size == 2);
  put("gone", "another");
  CHECK(pread(file, bytes, 8, 0) == 2);
  expect("gone", "another");
  CHECK(close(file) == 0 && unlink("gone") == 0);
  CHECK(mkdir("here", 0755) == 0 && chdir("here") == 0 && rmdir("../here") == 0);
  CHECK(stat(".", &status) == 0 && open("new", O_WRONLY | O_CREAT, 0600) < 0 && errno == ENOENT);
}

static void deep(void) {
  doing = "deep folders";
  char name[16];
  const int top = open(".", O_RDONLY);
  for (int i = 0; i < 300; ++i) {
    snprintf(name, sizeof name, "level%d", i);
    CHECK(mkdir(name, 0755) == 0 && chdir(name) == 0);
  }
  put("bottom", "of it");
  for (int i = 299; i >= 0; --i) {
    if (i == 299) CHECK(unlink("bottom") == 0);
    snprintf(name, sizeof name, "level%d", i);
    CHECK(chdir("..") == 0 && rmdir(name) == 0);
  }
  CHECK(fchdir(top) == 0);
  close(top);
}

static void many(void) {
  doing = "a folder of many files";
  enum { kFiles = 1500 };
  static char seen[kFiles];
  char name[32];
  CHECK(mkdir("many", 0755) == 0 && chdir("many") == 0);
  for (int i = 0; i < kFiles; ++i) {
    snprintf(name, sizeof name, "file-%d", i);
    put(name, name);
  }
  for (int pass = 0; pass < 3; ++pass) {
    memset(seen, 0, sizeof seen);
    DIR *folder = opendir(".");
    CHECK(folder != NULL);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
      int i = 0;
      if (sscanf(entry->d_name, "file-%d", &i) != 1) continue;
      CHECK(i >= 0 && i < kFiles && !seen[i]);
      seen[i] = 1;
      ++count;
      if (pass == 1) {  // each looked at, as ls -l does
        struct stat status;
        CHECK(lstat(entry->d_name, &status) == 0 && status.st_size == (off_t)strlen(entry->d_name) && status.st_ino == entry->d_ino);
      }
      if (pass == 2) CHECK(unlink(entry->d_name) == 0);  // removed meanwhile, as rm -r does
    }
    CHECK(count == kFiles);
    closedir(folder);
  }
  CHECK(chdir("..") == 0 && rmdir("many") == 0);
}

static void mappings(void) {
  doing = "mappings";
  enum { kBytes = 64 * 1024 };
  const int file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(file >= 0 && ftruncate(file, kBytes) == 0);
  volatile char *mine = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CHECK(mine != MAP_FAILED);
  const pid_t child = fork();
  if (child == 0) {
    const int again = open("mapped", O_RDWR);
    volatile char *its = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0);
    if (its == MAP_FAILED) _exit(2);
    while (its[0] != 1) usleep(100);
    for (int i = 1; i < kBytes; ++i) its[i] = (char)(i * 7);
    its[0] = 2;
    _exit(0);
  }
  mine[0] = 1;
  while (mine[0] != 2) usleep(100);
  end_of(child);
  for (int i = 1; i < kBytes; ++i) CHECK(mine[i] == (char)(i * 7));
  CHECK(msync((void *)mine, kBytes, MS_SYNC) == 0);
  static char bytes[kBytes];
  CHECK(pread(file, bytes, kBytes, 0) == kBytes);
  for (int i = 1; i < kBytes; ++i) CHECK(bytes[i] == (char)(i * 7));
  char *own = mmap(NULL, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
  CHECK(own != MAP_FAILED && own[100] == (char)700);
  own[100] = 55;
  CHECK(pread(file, bytes, 1, 100) == 1 && bytes[0] == (char)700);
  CHECK(pwrite(file, "written", 7, 200) == 7 && memcmp((const void *)(mine + 200), "written", 7) == 0);
  munmap(own, kBytes);
  munmap((void *)mine, kBytes);
  CHECK(close(file) == 0 && unlink("mapped") == 0);
}

static void appending(void) {
  doing = "appending by several processes";
  enum { kWriters = 4, kLines = 200 };
  put("log", "");
  pid_t writers[kWriters];
  for (int i = 0; i < kWriters; ++i) {
    writers[i] = fork();
    if (writers[i] != 0) continue;
    const int file = open("log", O_WRONLY | O_APPEND);
    for (int line = 0; line < kLines; ++line) {
      char text[16];
      snprintf(text, sizeof text, "%d %05d\n", i, line);
      if (write(file, text, 8) != 8) _exit(2);
    }
    _exit(close(file) != 0);
  }
  for (int i = 0; i < kWriters; ++i) end_of(writers[i]);
  int next[kWriters] = {0};
  FILE *log = fopen("log", "r");
  CHECK(log != NULL);
  for (int i, line; fscanf(log, "%d %d", &i, &line) == 2;) CHECK(i >= 0 && i < kWriters && line == next[i]++);
  for (int i = 0; i < kWriters; ++i) CHECK(next[i] == kLines);
  fclose(log);
  CHECK(unlink("log") == 0);
}

static int lock_range(int file, int command, short type, off_t start) {
  struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = 10};
  return fcntl(file, command, &lock);
}

static void locks(void) {
  doing = "locks";
  int ends[2], go[2];
  char byte;
  put("locked", "0000000000000000000000");
  const int file = open("locked", O_RDWR);
  CHECK(file >= 0 && pipe(ends) == 0 && pipe(go) == 0);
  pid_t child = fork();
  if (child == 0) {
    const int again = open("locked", O_RDWR);
    if (flock(again, LOCK_EX) != 0 || lock_range(again, F_SETLK, F_WRLCK, 0) != 0 || write(ends[1], "l", 1) != 1) _exit(2);
    if (read(go[0], &byte, 1) != 1 || pwrite(again, "child", 5, 0) != 5) _exit(3);
    _exit(0);  // which lets go of both
  }
  CHECK(read(ends[0], &byte, 1) == 1);
  CHECK(flock(file, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
  CHECK(lock_range(file, F_SETLK, F_WRLCK, 5) < 0 && (errno == EAGAIN || errno == EACCES));
  CHECK(lock_range(file, F_SETLK, F_WRLCK, 10) == 0);  // beside it
  CHECK(write(go[1], "g", 1) == 1);
  CHECK(flock(file, LOCK_EX) == 0 && lock_range(file, F_SETLKW, F_WRLCK, 0) == 0);
  char bytes[8] = {0};
  CHECK(pread(file, bytes, 5, 0) == 5 && strcmp(bytes, "child") == 0);
  end_of(child);
  // Counting up together.
  enum { kProcesses = 4, kRounds = 100 };
  CHECK(lock_range(file, F_SETLK, F_UNLCK, 0) == 0 && lock_range(file, F_SETLK, F_UNLCK, 10) == 0 && flock(file, LOCK_UN) == 0);
  CHECK(pwrite(file, "0000000000", 10, 0) == 10);
  pid_t counters[kProcesses];
  for (int i = 0; i < kProcesses; ++i) {
    counters[i] = fork();
    if (counters[i] != 0) continue;
    const int again = open("locked", O_RDWR);
    for (int round = 0; round < kRounds; ++round) {
      char text[16] = {0};
      if (flock(again, LOCK_EX) != 0) _exit(2);
      if (pread(again, text, 10, 0) != 10) _exit(3);
      snprintf(text, sizeof text, "%010d", atoi(text) + 1);
      if (pwrite(again, text, 10, 0) != 10 || flock(again, LOCK_UN) != 0) _exit(4);
    }
    _exit(0);
  }
  for (int i = 0; i < kProcesses; ++i) end_of(counters[i]);
  char text[16] = {0};
  CHECK(pread(file, text, 10, 0) == 10 && atoi(text) == kProcesses * kRounds);
  CHECK(close(file) == 0 && unlink("locked") == 0);
}

static void attributes(void) {
  doing = "extended attributes";
  char value[16] = {0}, list[64];
  put("file", "");
  if (setxattr("file", "user.colour", "green", 5, 0) != 0) {
    CHECK(errno == EOPNOTSUPP);  // not on this file system
  } else {
    CHECK(getxattr("file", "user.colour", value, sizeof value) == 5 && strcmp(value, "green") == 0);
    CHECK(listxattr("file", list, sizeof list) == 12 && strcmp(list, "user.colour") == 0);
    CHECK(getxattr("file", "user.colour", value, 2) < 0 && errno == ERANGE);
    CHECK(setxattr("file", "user.colour", "red", 3, XATTR_CREATE) < 0 && errno == EEXIST);
    CHECK(removexattr("file", "user.colour") == 0 && getxattr("file", "user.colour", value, 16) < 0 && errno == ENODATA);
  }
  CHECK(unlink("file") == 0);
}

// --- one file against a model ---

enum { kMost = 300 * 1024 };
static char model[kMost], found[kMost];
static off_t model_size;

static void compare(int file) {
  struct stat status;
  CHECK(fstat(file, &status) == 0 && status.st_size == model_size);
  CHECK(pread(file, found, kMost, 0) == model_size && memcmp(found, model, (size_t)model_size) == 0);
}

static void grow(off_t to) {
  if (to > model_size) model_size = to;
}

static void random_file(int rounds) {
  doing = "random operations on a file";
  int file = open("random", O_RDWR | O_CREAT | O_TRUNC, 0644);
  CHECK(file >= 0);
  for (int round = 0; round < rounds; ++round) {
    const uint32_t at = random_below(kMost - 1), most = kMost - at;
    const uint32_t length = 1 + random_below(random_below(4) == 0 ? most : most < 5000 ? most : 5000);
    switch (random_below(10)) {
      case 0:
      case 1:
      case 2:
        for (uint32_t i = 0; i < length; ++i) model[at + i] = (char)random_below(256);
        CHECK(pwrite(file, model + at, length, at) == (ssize_t)length);
        grow(at + length);
        break;
      case 3: {
        const ssize_t wanted = at >= model_size ? 0 : at + length > model_size ? model_size - at : length;
        CHECK(pread(file, found, length, at) == wanted && memcmp(found, model + at, (size_t)wanted) == 0);
        break;
      }
      case 4: {
        const off_t size = random_below(kMost);
        CHECK(ftruncate(file, size) == 0);
        if (size < model_size) memset(model + size, 0, (size_t)(model_size - size));
        model_size = size;
        break;
      }
      case 5:
        if (at + length > model_size) break;
        {
          char *map = mmap(NULL, kMost, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
          CHECK(map != MAP_FAILED);
          for (uint32_t i = 0; i < length; ++i) map[at + i] = model[at + i] = (char)random_below(256);
          if (random_below(2) == 0) CHECK(msync(map, kMost, MS_SYNC) == 0);
          munmap(map, kMost);
        }
        break;
      case 6:
        if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length) != 0) {
          CHECK(errno == EOPNOTSUPP);
        } else if (at < model_size) {
          memset(model + at, 0, at + length > model_size ? (size_t)(model_size - at) : length);
        }
        break;
      case 7:
        if (random_below(4) == 0) CHECK(fsync(file) == 0);
        CHECK(close(file) == 0);
        file = open("random", random_below(8) == 0 ? O_RDWR | O_DSYNC : O_RDWR);
        CHECK(file >= 0);
        break;
      case 8:
        if (random_below(4) == 0) CHECK(posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED) == 0);
        compare(file);
        break;
      default: {
        const int end = open("random", O_WRONLY | O_APPEND);
        const uint32_t more = model_size + 100 < kMost ? 100 : 0;
        for (uint32_t i = 0; i < more; ++i) model[model_size + i] = (char)random_below(256);
        CHECK(end >= 0 && write(end, model + model_size, more) == (ssize_t)more && close(end) == 0);
        model_size += more;
      }
    }
  }
  compare(file);
  CHECK(close(file) == 0 && unlink("random") == 0);
}

// --- a tree against a model: folders f0 to f3, names n0 to n7 in each, a number in each file ---

enum { kFolders = 4, kNames = 8 };
static int numbers[kFolders][kNames];  // 0: no such name

static const char *name_of(int folder, int name) {
  static char text[4][32];
  static int turn;
  turn = (turn + 1) % 4;
  snprintf(text[turn], sizeof text[turn], "f%d/n%d", folder, name);
  return text[turn];
}

static void random_tree(int rounds) {
  doing = "random operations on a tree";
  char text[16];
  int last = 0;
  for (int i = 0; i < kFolders; ++i) {
    snprintf(text, sizeof text, "f%d", i);
    CHECK(mkdir(text, 0755) == 0);
  }
  for (int round = 0; round < rounds; ++round) {
    const int f = (int)random_below(kFolders), n = (int)random_below(kNames), g = (int)random_below(kFolders), m = (int)random_below(kNames);
    int *const one = &numbers[f][n], *const other = &numbers[g][m];
    switch (random_below(6)) {
      case 0: {
        const int made = open(name_of(f, n), O_WRONLY | O_CREAT | O_EXCL, 0644);
        CHECK(*one == 0 ? made >= 0 : made < 0 && errno == EEXIST);
        if (made < 0) break;
        *one = ++last;
        snprintf(text, sizeof text, "%d", last);
        CHECK(write(made, text, strlen(text)) == (ssize_t)strlen(text) && close(made) == 0);
        break;
      }
      case 1:
        CHECK(unlink(name_of(f, n)) == 0 ? *one != 0 : *one == 0 && errno == ENOENT);
        *one = 0;
        break;
      case 2:
        CHECK(rename(name_of(f, n), name_of(g, m)) == 0 ? *one != 0 : *one == 0 && errno == ENOENT);
        if (*one == 0 || *one == *other) break;  // two names of one file: both stay
        *other = *one;
        *one = 0;
        break;
      case 3:
        if (link(name_of(f, n), name_of(g, m)) == 0) {
          CHECK(*one != 0 && *other == 0);
          *other = *one;
        } else {
          CHECK(*one == 0 ? errno == ENOENT : *other != 0 && errno == EEXIST);
        }
        break;
      case 4:
        if (renameat2(AT_FDCWD, name_of(f, n), AT_FDCWD, name_of(g, m), RENAME_EXCHANGE) == 0) {
          CHECK(*one != 0 && *other != 0);
          const int kept = *one;
          *one = *other;
          *other = kept;
        } else {
          CHECK((*one == 0 || *other == 0) && errno == ENOENT);
        }
        break;
      default:
        snprintf(text, sizeof text, "%d", *one);
        if (*one != 0) expect(name_of(f, n), text);
        if (*one == 0) CHECK(access(name_of(f, n), F_OK) < 0 && errno == ENOENT);
    }
  }
  for (int f = 0; f < kFolders; ++f) {
    for (int n = 0; n < kNames; ++n) {
      snprintf(text, sizeof text, "%d", numbers[f][n]);
      if (numbers[f][n] != 0) expect(name_of(f, n), text);
      CHECK(unlink(name_of(f, n)) == 0 ? numbers[f][n] != 0 : numbers[f][n] == 0);
      numbers[f][n] = 0;
    }
    snprintf(text, sizeof text, "f%d", f);
    CHECK(rmdir(text) == 0);
  }
}

int main(int count, char **words) {
  const char *directory = count > 1 ? words[1] : "/tmp";
  const int rounds = count > 2 ? atoi(words[2]) : 300;
  state = 0x9e3779b97f4a7c15 ^ (count > 3 ? strtoull(words[3], NULL, 0) : 0);
  char folder[32];
  snprintf(folder, sizeof folder, "filecheck-%d", getpid());
  setvbuf(stdout, NULL, _IOLBF, 0);
  umask(022);
  CHECK(chdir(directory) == 0 && mkdir(folder, 0755) == 0 && chdir(folder) == 0);
  const int top = open(".", O_RDONLY);
  names();
  without_name();
  CHECK(fchdir(top) == 0);
  deep();
  many();
  mappings();
  appending();
  locks();
  attributes();
  random_file(rounds);
  random_tree(4 * rounds);
  CHECK(chdir("..") == 0 && rmdir(folder) == 0);
  printf("PASS filecheck\n");
  return 0;
}
