// Process 1 of the guest of `nacre run -- COMMAND`: mounts what a program expects, starts the command with
// pipes for its standard streams, carries them over the second serial port, and switches the machine
// off. No C library: a few kilobytes, so that the guest's memory and start do not feel it.
#include "app/agent/protocol.hpp"
#include "app/agent/system.hpp"

using namespace nacre::agent;  // NOLINT: this file is one small program
namespace channel = nacre::app::channel;
using channel::ExitKind;
using channel::Frame;

namespace {

constexpr std::size_t kMostText = 256 * 1024;  // words or environment together
constexpr unsigned kMostWords = 8192;

char command_text[kMostText], environment_text[kMostText];
char* command[kMostWords + 1];
char* environment[kMostWords + 1];

std::size_t length_of(const char* text) {
  std::size_t length = 0;
  while (text[length] != 0) ++length;
  return length;
}

// The zero-ended strings of a file, as a list ended by null.
unsigned read_words(const char* path, char* text, char** words) {
  const long file = open(path, O_RDONLY);
  std::size_t length = 0;
  while (file >= 0 && length < kMostText - 1) {
    const long got = read(static_cast<int>(file), text + length, kMostText - 1 - length);
    if (got <= 0) break;
    length += static_cast<std::size_t>(got);
  }
  if (file >= 0) close(static_cast<int>(file));
  text[length] = 0;
  unsigned count = 0;
  for (std::size_t at = 0; at < length && count < kMostWords; at += length_of(text + at) + 1)
    words[count++] = text + at;
  words[count] = nullptr;
  return count;
}

void prepare_system() {
  mount("proc", "/proc", "proc");
  mount("sys", "/sys", "sysfs");
  mount("dev", "/dev", "devtmpfs");
  mkdir("/dev/pts", 0755);
  mkdir("/dev/shm", 01777);
  mount("devpts", "/dev/pts", "devpts");
  mount("tmpfs", "/dev/shm", "tmpfs", "mode=1777");
  mount("tmpfs", "/tmp", "tmpfs", "mode=1777");
  sethostname("nacre", 5);
  // The loopback interface up: SIOCSIFFLAGS with IFF_UP | IFF_RUNNING. netdevice(7).
  struct {
    char name[16] = "lo";
    short flags = 0x41;
    char rest[22] = {};
  } request;
  if (const long control = socket(2, 2, 0); control >= 0) {
    ioctl(static_cast<int>(control), 0x8914, &request);
    close(static_cast<int>(control));
  }
  chdir("/root");
}

// Every byte as it is, both ways.
void make_raw(int port) {
  termios settings = {};
  ioctl(port, TCGETS, &settings);
  settings.c_iflag = 0;
  settings.c_oflag = 0;
  settings.c_lflag = 0;
  settings.c_cflag = CS8 | CREAD | CLOCAL | B115200;
  settings.c_cc[VMIN] = 1;
  settings.c_cc[VTIME] = 0;
  ioctl(port, TCSETS, &settings);
}

void write_whole(int file, const void* from, std::size_t bytes) {
  const auto* at = static_cast<const char*>(from);
  while (bytes != 0) {
    const long written = write(file, at, bytes);
    if (written == -EAGAIN) {
      pollfd entry = {file, POLLOUT, 0};
      poll(&entry, 1, -1);
    } else if (written > 0) {
      at += written;
      bytes -= static_cast<std::size_t>(written);
    } else if (written != -EINTR) {
      return;
    }
  }
}

void say(const char* text) {
  write_whole(2, text, length_of(text));
}

// Runs a script that nacre has put here, where there is one. What it says goes to the console.
bool set_up(const char* script, const char* what) {
  const long file = open(script, O_RDONLY);
  if (file < 0) return true;
  close(static_cast<int>(file));
  const long child = fork();
  if (child == 0) {
    char shell[] = "/bin/sh", path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    char name[64];
    memcpy(name, script, length_of(script) + 1);
    char* const words[] = {shell, name, nullptr};
    char* const variables[] = {path, nullptr};
    execve(shell, words, variables);
    exit(127);
  }
  int status = -1;
  while (child > 0 && wait4(static_cast<int>(child), &status, 0) == -EINTR) {
  }
  if (status == 0) return true;
  say("nacre: the guest's ");
  say(what);
  say(" could not be set up.\n");
  return false;
}

// To where the user is, if that is shared.
void go_to_directory() {
  char* words[kMostWords + 1];
  if (read_words(channel::kDirectoryFile, command_text, words) != 0) chdir(words[0]);
}

void set_broken_pipe_action(bool ignore) {
  const struct {
    std::uintptr_t handler;  // SIG_DFL 0, SIG_IGN 1
    unsigned long flags, restorer, mask;
  } action = {ignore ? 1U : 0U, 0, 0, 0};
  syscall6(__NR_rt_sigaction, SIGPIPE, address(&action), 0, 8);
}

// In the child. Never returns; 127: no such command, 126: it cannot be run.
[[noreturn]] void run_command() {
  set_broken_pipe_action(false);
  char path[4096];
  long error = -ENOENT;
  bool has_slash = false;
  for (const char* at = command[0]; *at != 0; ++at) has_slash = has_slash || *at == '/';
  if (has_slash) {
    error = execve(command[0], command, environment);
  } else {
    static constexpr const char* kFolders[] = {"/usr/local/sbin/", "/usr/local/bin/", "/usr/sbin/",
                                               "/usr/bin/",        "/sbin/",          "/bin/"};
    for (const char* folder : kFolders) {
      const std::size_t prefix = length_of(folder), rest = length_of(command[0]);
      if (prefix + rest >= sizeof path) break;
      memcpy(path, folder, prefix);
      memcpy(path + prefix, command[0], rest + 1);
      const long result = execve(path, command, environment);
      if (result != -ENOENT) error = result;
    }
  }
  say("nacre: ");
  say(command[0]);
  say(error == -ENOENT ? ": no such command in the guest.\n" : ": cannot be run in the guest.\n");
  exit(error == -ENOENT ? 127 : 126);
}

class Agent {
 public:
  void run(int port) {
    port_ = port;
    make_raw(port);
    if (start_command()) {
      send(Frame::Ready, nullptr, 0);
      while (!finished_) serve();
      drain();
    }
    const unsigned char ending[2] = {static_cast<unsigned char>(kind_), code_};
    send(Frame::Exit, ending, sizeof ending);
    ioctl(port, TCSBRK, reinterpret_cast<const void*>(1));  // wait until it is sent
  }

 private:
  struct Stream {
    int file = -1;
    Frame type;
  };

  void send(Frame type, const void* payload, unsigned bytes) {
    char frame[channel::kHeaderBytes + channel::kMostPayload];
    frame[0] = static_cast<char>(type);
    frame[1] = static_cast<char>(bytes & 0xff);
    frame[2] = static_cast<char>(bytes >> 8);
    memcpy(frame + channel::kHeaderBytes, payload, bytes);
    write_whole(port_, frame, channel::kHeaderBytes + bytes);
  }

  bool start_command() {
    int in[2], out[2], err[2];
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0) return false;
    const long child = fork();
    if (child < 0) return false;
    if (child == 0) {
      setsid();
      dup2(in[0], 0);
      dup2(out[1], 1);
      dup2(err[1], 2);
      run_command();
    }
    close(in[0]);
    close(out[1]);
    close(err[1]);
    child_ = static_cast<int>(child);
    in_ = in[1];
    make_nonblocking(in_);
    streams_[0] = {out[0], Frame::Output};
    streams_[1] = {err[0], Frame::Error};
    make_nonblocking(out[0]);
    make_nonblocking(err[0]);
    make_nonblocking(port_);
    return true;
  }

  static void make_nonblocking(int file) {
    const long flags = syscall6(__NR_fcntl, file, F_GETFL);
    syscall6(__NR_fcntl, file, F_SETFL, flags | O_NONBLOCK);
  }

  void serve() {
    pollfd entries[4] = {{port_, POLLIN, 0},
                         {streams_[0].file, POLLIN, 0},
                         {streams_[1].file, POLLIN, 0},
                         {held_ != 0 ? in_ : -1, POLLOUT, 0}};
    // SIGCHLD has no handler here, so a child's end does not interrupt poll(2); the closing of its
    // pipes usually does. The time limit is for a command whose children keep them open.
    const bool waiting = streams_[0].file < 0 && streams_[1].file < 0;
    poll(entries, 4, waiting ? 1 : 100);
    if (entries[0].revents != 0) receive();
    feed_command();
    for (Stream& stream : streams_) pass_on(stream);
    reap();
  }

  // One read of each stream; at its end it is closed.
  bool pass_on(Stream& stream) {
    if (stream.file < 0) return false;
    char bytes[channel::kMostPayload];
    const long got = read(stream.file, bytes, sizeof bytes);
    if (got == -EAGAIN || got == -EINTR) return false;
    if (got <= 0) {
      close(stream.file);
      stream.file = -1;
      return false;
    }
    send(stream.type, bytes, static_cast<unsigned>(got));
    return true;
  }

  // What the command wrote before it ended.
  void drain() {
    for (Stream& stream : streams_) {
      while (pass_on(stream)) {
      }
    }
  }

  void reap() {
    int status = 0;
    for (;;) {
      const long process = wait4(-1, &status, WNOHANG);
      if (process <= 0) return;
      if (process != child_) continue;
      finished_ = true;
      const int signal = status & 0x7f;
      kind_ = signal != 0 ? ExitKind::Killed : ExitKind::Exited;
      code_ = static_cast<unsigned char>(signal != 0 ? signal : (status >> 8) & 0xff);
    }
  }

  // Takes frames apart as they come; input bytes go to `held`.
  void receive() {
    unsigned char bytes[1024];
    const long got = read(port_, bytes, sizeof bytes);
    for (long i = 0; i < got; ++i) take(bytes[i]);
  }

  void take(unsigned char byte) {
    if (header_ < channel::kHeaderBytes) {
      head_[header_++] = byte;
      left_ = static_cast<unsigned>(head_[1] | head_[2] << 8);
      if (header_ == channel::kHeaderBytes && left_ == 0) end_frame();
      return;
    }
    const auto type = static_cast<Frame>(head_[0]);
    if (type == Frame::Input && held_ < sizeof held_bytes_) held_bytes_[held_++] = byte;
    if (type == Frame::Signal) kill(-child_, byte);
    if (--left_ == 0) header_ = 0;
  }

  void end_frame() {
    header_ = 0;
    if (static_cast<Frame>(head_[0]) == Frame::Input) input_ended_ = true;
  }

  void feed_command() {
    if (held_ != 0) {
      const long written = in_ < 0 ? -EPIPE : write(in_, held_bytes_, held_);
      if (written == -EAGAIN || written == -EINTR) return;
      // A command that has closed its stdin does not want the rest: it is thrown away.
      const auto gone = written < 0 ? held_ : static_cast<unsigned>(written);
      if (written < 0 && in_ >= 0) {
        close(in_);
        in_ = -1;
      }
      memmove(held_bytes_, held_bytes_ + gone, held_ - gone);
      held_ -= gone;
      const unsigned char credit[4] = {
          static_cast<unsigned char>(gone), static_cast<unsigned char>(gone >> 8),
          static_cast<unsigned char>(gone >> 16), static_cast<unsigned char>(gone >> 24)};
      send(Frame::Credit, credit, sizeof credit);
    }
    if (held_ == 0 && input_ended_ && in_ >= 0) {
      close(in_);
      in_ = -1;
    }
  }

  int port_ = -1;
  int child_ = 0;
  int in_ = -1;
  Stream streams_[2] = {{-1, Frame::Output}, {-1, Frame::Error}};
  unsigned char head_[channel::kHeaderBytes] = {};
  unsigned header_ = 0, left_ = 0;
  unsigned char held_bytes_[channel::kWindow];
  unsigned held_ = 0;
  bool input_ended_ = false, finished_ = false;
  ExitKind kind_ = ExitKind::NotStarted;
  unsigned char code_ = 0;
};

Agent agent;

}  // namespace

extern "C" [[noreturn]] void agent_main() {
  prepare_system();
  read_words(channel::kEnvironmentFile, environment_text, environment);
  const bool ready = set_up(channel::kNetworkScript, "network") && set_up(channel::kShareScript, "shared folders");
  go_to_directory();
  if (ready && read_words(channel::kCommandFile, command_text, command) != 0) {
    if (const long port = open(channel::kGuestPort, O_RDWR | O_NOCTTY | O_CLOEXEC); port >= 0) {
      set_broken_pipe_action(true);
      agent.run(static_cast<int>(port));
    }
  }
  // LINUX_REBOOT_CMD_POWER_OFF: reboot(2).
  syscall6(__NR_reboot, static_cast<long>(0xfee1dead), 672274793, 0x4321fedc);
  exit(1);
}

// The kernel gives process 1 a 16-byte aligned stack and nothing in it that is wanted here.
__asm__(
    ".globl _start\n"
    "_start:\n"
    "  xor %ebp, %ebp\n"
    "  and $-16, %rsp\n"
    "  call agent_main\n"
    "  ud2\n");
