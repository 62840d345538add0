#include "agent/guest/exec.hpp"

#include <sys/signalfd.h>

#include <new>

#include "agent/guest/process.hpp"
#include "agent/guest/user.hpp"

namespace nacre::agent {
namespace {

constexpr unsigned kMostWords = 8192;
constexpr char kPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// All of the request, kept while the wire's payload is overwritten.
u8 request_text[kMostPayload];
char* words[kMostWords + 2];
char* environment[kMostWords + 8];
char home_text[300], user_text[80], logname_text[80], shell_text[300], login_name[260];

bool begins(const char* text, const char* with) {
  while (*with != 0) {
    if (*text++ != *with++) return false;
  }
  return true;
}

char* join(char* to, const char* first, const char* second) {
  char* at = to;
  while (*first != 0) *at++ = *first++;
  while (*second != 0) *at++ = *second++;
  *at = 0;
  return to;
}

class Command {
 public:
  explicit Command(Wire& wire) : wire_(wire) {}
  void run() {
    if (!parse() || !start()) return;
    wire_.send(Frame::Started);
    sys::set_nonblocking(wire_.file());
    while (!ended_ && !gone_) serve();
    finish();
  }

 private:
  struct Stream {
    int file = -1;
    Frame type = Frame::Output;
  };

  bool fail(long error, const char* what) {
    wire_.send_value(Frame::Failed, static_cast<u32>(error < 0 ? -error : error),
                     {what, sys::length(what) + 1});
    return false;
  }

  bool parse();
  void default_environment();
  bool start();
  bool open_terminal(int& inner);
  [[noreturn]] void become_command(const int (&streams)[3], int report);
  [[noreturn]] void execute(int report);

  void serve();
  void receive();
  void take();
  void feed();
  void pass_on(Stream& stream);
  void flush();
  void queue(Frame type, const void* bytes, u32 count);
  void reap();
  void finish();
  [[nodiscard]] bool congested() const { return out_bytes_ - out_sent_ > 4 * kDataBytes; }

  Wire& wire_;
  User user_;
  const char* folder_ = "";
  bool terminal_ = false;
  WindowSize size_;

  int child_ = 0;
  int in_ = -1;
  int signals_ = -1;
  Stream streams_[2];
  bool ended_ = false, gone_ = false, input_ended_ = false;
  int status_ = 0;

  FrameParser parser_;
  u8 held_[kWindow];
  usize held_bytes_ = 0;
  u8 out_[6 * kDataBytes];
  usize out_bytes_ = 0, out_sent_ = 0;
};

bool Command::parse() {
  if (wire_.bytes() < sizeof(ExecRequest)) return fail(EBADMSG, "request");
  __builtin_memcpy(request_text, wire_.payload(), wire_.bytes());
  Payload payload(request_text, wire_.bytes());
  const auto request = payload.value<ExecRequest>();
  const char* user = payload.text();
  folder_ = payload.text();
  if (request.words > kMostWords || request.variables > kMostWords) return fail(E2BIG, "request");
  for (u32 i = 0; i < request.words; ++i) words[i] = const_cast<char*>(payload.text());
  for (u32 i = 0; i < request.variables; ++i) environment[i] = const_cast<char*>(payload.text());
  if (!payload.ok()) return fail(EBADMSG, "request");
  terminal_ = (request.flags & ExecFlag::terminal) != 0;
  size_ = request.size;
  if (const int error = find_user(user, user_); error != 0) return fail(error, user);
  default_environment();
  return true;
}

void Command::default_environment() {
  bool path = false;
  unsigned count = 0;
  for (; environment[count] != nullptr; ++count) path = path || begins(environment[count], "PATH=");
  if (!path) environment[count++] = const_cast<char*>(kPath);
  // What was asked for stands before and is found first.
  environment[count++] = join(home_text, "HOME=", user_.home);
  environment[count++] = join(user_text, "USER=", user_.name);
  environment[count++] = join(logname_text, "LOGNAME=", user_.name);
  environment[count++] = join(shell_text, "SHELL=", user_.shell);
}

bool Command::open_terminal(int& inner) {
  const long outer = sys::openat(AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY);
  if (outer < 0) return fail(outer, "/dev/ptmx");
  const int unlock = 0;
  const winsize size = {size_.rows, size_.columns, 0, 0};
  sys::ioctl(static_cast<int>(outer), TIOCSPTLCK, &unlock);
  sys::ioctl(static_cast<int>(outer), TIOCSWINSZ, &size);
  // Not by its name in /dev/pts, which need not be mounted there.
  const long opened = sys::call(SYS_ioctl, outer, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
  if (opened < 0) return fail(opened, "terminal");
  inner = static_cast<int>(opened);
  in_ = static_cast<int>(outer);
  streams_[0] = {in_, Frame::Output};
  return true;
}

bool Command::start() {
  int streams[3], ours[3] = {-1, -1, -1};
  if (terminal_) {
    int inner = -1;
    if (!open_terminal(inner)) return false;
    for (int& stream : streams) stream = inner;
  } else {
    for (int i = 0; i < 3; ++i) {
      int ends[2];
      if (const long error = sys::pipe2(ends, O_CLOEXEC); error < 0) return fail(error, "pipe");
      streams[i] = ends[i == 0 ? 0 : 1];
      ours[i] = ends[i == 0 ? 1 : 0];
    }
    in_ = ours[0];
    streams_[0] = {ours[1], Frame::Output};
    streams_[1] = {ours[2], Frame::Error};
  }
  int report[2];
  if (const long error = sys::pipe2(report, O_CLOEXEC); error < 0) return fail(error, "pipe");
  // The child's end comes as something to read.
  const u64 mask = u64{1} << (SIGCHLD - 1);
  sys::set_signal(SIGCHLD, false);
  sys::block_signals(mask);
  signals_ =
      static_cast<int>(sys::call(SYS_signalfd4, -1, sys::address(&mask), 8, SFD_CLOEXEC | SFD_NONBLOCK));
  const long child = sys::fork();
  if (child < 0) return fail(child, "fork");
  if (child == 0) become_command(streams, report[1]);
  child_ = static_cast<int>(child);
  sys::close(report[1]);
  for (int i = 0; i < 3; ++i) {
    if (i == 0 || !terminal_) sys::close(streams[i]);
    if (ours[i] >= 0) sys::set_nonblocking(ours[i]);
  }
  if (terminal_) sys::set_nonblocking(in_);
  int why[2] = {};  // error, and whether it was the directory's
  const bool failed = sys::read(report[0], why, sizeof why) == static_cast<long>(sizeof why);
  sys::close(report[0]);
  if (failed) return fail(why[0], why[1] == 1 ? folder_ : why[1] == 2 ? user_.name : words[0]);
  return true;
}

void Command::become_command(const int (&streams)[3], int report) {
  sys::setsid();
  if (terminal_) sys::ioctl(streams[0], TIOCSCTTY, nullptr);
  for (int i = 0; i < 3; ++i) sys::dup2(streams[i], i);
  for (int signal = 1; signal < 65; ++signal) sys::set_signal(signal, false);
  sys::block_signals(0);
  int why[2] = {become(user_), 2};
  if (why[0] == 0) {
    const bool asked = *folder_ != 0;
    const long error = sys::chdir(asked ? folder_ : user_.home);
    why[1] = 1;
    if (error < 0 && asked) why[0] = static_cast<int>(-error);
    if (error < 0 && !asked) sys::chdir("/");
  }
  if (why[0] == 0) execute(report);
  sys::write(report, why, sizeof why);
  sys::exit(126);
}

void Command::execute(int report) {
  const char* program = words[0];
  if (program == nullptr) {
    // A dash before the name makes it a login shell.
    const char* name = user_.shell;
    for (const char* at = name; *at != 0; ++at) name = *at == '/' ? at + 1 : name;
    words[0] = join(login_name, "-", name);
    program = user_.shell;
  }
  long error = -ENOENT;
  bool slash = false;
  for (const char* at = program; *at != 0; ++at) slash = slash || *at == '/';
  const char* folders = kPath + 5;
  for (char** at = environment; *at != nullptr; ++at) {
    if (begins(*at, "PATH=")) {
      folders = *at + 5;
      break;
    }
  }
  if (slash) error = sys::execve(program, words, environment);
  while (!slash) {
    char path[4096];
    usize length = 0;
    while (folders[length] != 0 && folders[length] != ':') ++length;
    if (length + sys::length(program) + 2 <= sizeof path) {
      __builtin_memcpy(path, folders, length);
      path[length] = 0;
      join(path + length, length == 0 ? "" : "/", program);
      const long result = sys::execve(path, words, environment);
      if (result != -ENOENT && result != -ENOTDIR) error = result;
    }
    if (folders[length] == 0) break;
    folders += length + 1;
  }
  const int why[2] = {static_cast<int>(-error), 0};
  sys::write(report, why, sizeof why);
  sys::exit(error == -ENOENT ? 127 : 126);
}

void Command::serve() {
  const bool reads = !congested();
  pollfd entries[5] = {
      {wire_.file(), static_cast<short>(POLLIN | (out_sent_ != out_bytes_ ? POLLOUT : 0)), 0},
      {signals_, POLLIN, 0},
      {reads ? streams_[0].file : -1, POLLIN, 0},
      {reads ? streams_[1].file : -1, POLLIN, 0},
      {held_bytes_ != 0 ? in_ : -1, POLLOUT, 0}};
  sys::poll(entries, 5, -1);
  if (entries[0].revents != 0) receive();
  feed();
  for (Stream& stream : streams_) {
    if (reads) pass_on(stream);
  }
  if (entries[1].revents != 0) reap();
  flush();
}

void Command::queue(Frame type, const void* bytes, u32 count) {
  if (out_sent_ != 0) {
    __builtin_memmove(out_, out_ + out_sent_, out_bytes_ - out_sent_);
    out_bytes_ -= out_sent_;
    out_sent_ = 0;
  }
  const Header header = {count, type, 0};
  if (out_bytes_ + sizeof header + count > sizeof out_) return;  // congested() keeps it from being so
  __builtin_memcpy(out_ + out_bytes_, &header, sizeof header);
  if (count != 0) __builtin_memcpy(out_ + out_bytes_ + sizeof header, bytes, count);
  out_bytes_ += sizeof header + count;
}

void Command::flush() {
  while (out_sent_ != out_bytes_) {
    const long written = sys::write(wire_.file(), out_ + out_sent_, out_bytes_ - out_sent_);
    if (written == -EAGAIN || written == -EINTR) return;
    if (written <= 0) {
      gone_ = true;
      return;
    }
    out_sent_ += static_cast<usize>(written);
  }
}

// One read of a stream; at its end it is closed. A terminal without programs is an error of its own: EIO.
void Command::pass_on(Stream& stream) {
  if (stream.file < 0) return;
  u8 bytes[kDataBytes];
  const long got = sys::read(stream.file, bytes, sizeof bytes);
  if (got == -EAGAIN || got == -EINTR) return;
  if (got > 0) return queue(stream.type, bytes, static_cast<u32>(got));
  if (stream.file != in_) sys::close(stream.file);
  stream.file = -1;
}

void Command::receive() {
  FrameParser::Step step;
  while ((step = parser_.read(wire_.file())) == FrameParser::Step::Frame) take();
  gone_ = gone_ || step == FrameParser::Step::Gone;
}

void Command::take() {
  Payload payload(parser_);
  switch (parser_.type()) {
    case Frame::Input:
      if (parser_.bytes() == 0) {
        input_ended_ = true;
      } else if (parser_.bytes() <= sizeof held_ - held_bytes_) {
        __builtin_memcpy(held_ + held_bytes_, parser_.payload(), parser_.bytes());
        held_bytes_ += parser_.bytes();
      } else {
        gone_ = true;  // more than it had credit for
      }
      break;
    case Frame::Resize: {
      const auto size = payload.value<WindowSize>();
      const winsize window = {size.rows, size.columns, 0, 0};
      if (terminal_ && payload.ok()) sys::ioctl(in_, TIOCSWINSZ, &window);
      break;
    }
    case Frame::Signal: {
      const u32 signal = payload.value<u32>();
      if (payload.ok() && signal >= 1 && signal < 65) sys::kill(-child_, static_cast<int>(signal));
      break;
    }
    default:
      break;
  }
}

void Command::feed() {
  if (held_bytes_ != 0) {
    const long written = in_ < 0 ? -EPIPE : sys::write(in_, held_, held_bytes_);
    if (written == -EAGAIN || written == -EINTR) return;
    // A command that has closed its stdin does not want the rest: it is thrown away.
    const usize done = written < 0 ? held_bytes_ : static_cast<usize>(written);
    if (written < 0 && in_ >= 0 && !terminal_) {
      sys::close(in_);
      in_ = -1;
    }
    __builtin_memmove(held_, held_ + done, held_bytes_ - done);
    held_bytes_ -= done;
    const u32 credit = static_cast<u32>(done);
    queue(Frame::Credit, &credit, sizeof credit);
  }
  if (held_bytes_ != 0 || !input_ended_ || in_ < 0) return;
  input_ended_ = false;
  if (terminal_) {
    sys::write(in_, "\x04", 1);  // what the key for the end of a file is, until a program changes it
  } else {
    sys::close(in_);
    in_ = -1;
  }
}

void Command::reap() {
  signalfd_siginfo info;
  while (sys::read(signals_, &info, sizeof info) > 0) {
  }
  for (;;) {
    int status = 0;
    const long process = sys::wait4(-1, &status, WNOHANG);
    if (process <= 0) return;
    if (process != child_) continue;
    ended_ = true;
    status_ = status;
  }
}

// What the command wrote before it ended; what others who have its streams still write is not waited for.
void Command::finish() {
  if (gone_) {  // nobody is there to see: as when a terminal is closed
    sys::kill(-child_, SIGHUP);
    return;
  }
  for (Stream& stream : streams_) {
    while (stream.file >= 0 && !gone_) {
      const usize before = out_bytes_ - out_sent_;
      pass_on(stream);
      if (stream.file >= 0 && out_bytes_ - out_sent_ == before) break;
      flush();
      while (congested() && !gone_) {
        pollfd entry = {wire_.file(), POLLOUT, 0};
        sys::poll(&entry, 1, -1);
        flush();
      }
    }
  }
  const bool killed = (status_ & 0x7f) != 0;
  const u32 code = static_cast<u32>(killed ? status_ & 0x7f : status_ >> 8 & 0xff);
  queue(killed ? Frame::Killed : Frame::Exited, &code, sizeof code);
  while (out_sent_ != out_bytes_ && !gone_) {
    flush();
    pollfd entry = {wire_.file(), POLLOUT, 0};
    if (out_sent_ != out_bytes_) sys::poll(&entry, 1, -1);
  }
}

Command* command;
alignas(Command) u8 command_memory[sizeof(Command)];

}  // namespace

void run_command(Wire& wire) {
  command = new (command_memory) Command(wire);
  command->run();
}

}  // namespace nacre::agent
