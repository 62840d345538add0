#include "share/process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>

#include "host/confine.hpp"
#include "host/error.hpp"
#include "share/sandbox.hpp"

namespace nacre::share {
namespace {

using virtio::fs::FileRequest;

// The first message of the server: "it serves", and how; or why it does not.
struct Ready {
  bool ok = false;
  bool enclosed = false;
  char why[500] = {};
};

constexpr usize kReserved = 64;          // descriptors besides files
constexpr usize kMostOpenInodes = 4096;  // each also holds the host's memory
constexpr usize kMostHandles = 64 * 1024;
constexpr usize kGuestBytesPerInode = 1024;  // what a guest itself needs for one; Linux: some 1100

Limits limits_for(usize ram) {
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const usize all = std::max<usize>(std::min<usize>(files.rlim_cur, 1 << 20), 4 * kReserved) - kReserved;
  Limits limits;
  limits.descriptors = std::min(all / 3, kMostOpenInodes);
  limits.handles = std::min(all - limits.descriptors, kMostHandles);
  // So a guest's own memory ends before its share of ours.
  limits.inodes = std::clamp<usize>(ram / kGuestBytesPerInode, 16 * 1024, 16 * 1024 * 1024);
  return limits;
}

// Only the channel and the folder stay open, by these numbers.
constexpr int kChannel = 3, kFolder = 4;

void close_all_but(int channel, int folder) {
  const int high_channel = fcntl(channel, F_DUPFD, 10);
  const int high_folder = fcntl(folder, F_DUPFD, 10);
  dup2(high_channel, kChannel);
  dup2(high_folder, kFolder);
  syscall(SYS_close_range, kFolder + 1, ~0U, 0);
  // What libraries may still say goes nowhere; the numbers are taken.
  const int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
  for (int standard = 0; standard < 3; ++standard) {
    if (nowhere < 0) close(standard);
    if (nowhere >= 0) dup2(nowhere, standard);
  }
  if (nowhere > kFolder) close(nowhere);
}

bool send_bytes(int channel, const void* from, usize bytes) {
  ssize_t sent;
  do {
    sent = write(channel, from, bytes);
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(bytes);
}

class Service {
 public:
  Service(int channel, std::unique_ptr<Server> server, std::span<u8> ram)
      : channel_(channel), server_(std::move(server)), ram_(ram) {}

  // Until the machine's process is gone.
  void run() {
    for (;;) {
      const ssize_t got = read(channel_, question_.get(), sizeof *question_);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0 || !handle(static_cast<usize>(got))) return;
    }
  }

 private:
  bool handle(usize bytes) {
    if (bytes < __builtin_offsetof(Question, pieces)) return false;
    if (question_->kind == Question::Reset) {
      server_->reset();
      return true;
    }
    const usize total = question_->total;
    if (total > kMostPieces || question_->readable > total || bytes != question_->bytes()) return false;
    for (usize i = 0; i < total; ++i) {
      const Piece& piece = question_->pieces[i];
      if (piece.offset > ram_.size() || piece.bytes > ram_.size() - piece.offset) return false;
      pieces_[i] = {ram_.data() + piece.offset, piece.bytes};
    }
    const std::span<const iovec> all(pieces_, total);
    const Answer answer = {question_->tag,
                           server_->serve(all.first(question_->readable), all.subspan(question_->readable))};
    return send_bytes(channel_, &answer, sizeof answer);
  }

  const int channel_;
  std::unique_ptr<Server> server_;
  const std::span<u8> ram_;
  // By itself: under ThreadSanitizer g++ 12 takes a pointer to a member for one to the member's first field.
  const std::unique_ptr<Question> question_ = std::make_unique<Question>();
  iovec pieces_[kMostPieces] = {};
};

Result<std::unique_ptr<Server>> prepare(const ShareConfig& config, const host::UniqueFd& folder, usize ram,
                                        bool& enclosed) {
  ServerOptions options;
  options.read_only = config.read_only;
  options.keeps_owners = geteuid() == 0;
  options.host_user = geteuid();
  options.host_group = getegid();
  options.user = config.user;
  options.group = config.group;
  options.limits = limits_for(ram);
  auto place = TRY(enclose(folder, config.read_only, options.keeps_owners));
  enclosed = place.enclosed;
  return Server::create(std::move(place.root), std::move(place.descriptors), options);
}

[[noreturn]] void serve(int inherited_channel, int inherited_folder, const ShareConfig& config,
                        std::span<u8> ram) {
  // Signals to the machine's group (Ctrl-C) are the machine's, whose end is seen at the channel.
  setpgid(0, 0);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "nacre-share");
  umask(0);
  close_all_but(inherited_channel, inherited_folder);
  const host::UniqueFd channel(kChannel);
  host::UniqueFd folder(kFolder);
  Ready ready;
  auto server = prepare(config, folder, ram.size(), ready.enclosed);
  folder = host::UniqueFd();
  ready.ok = server.ok();
  if (!server) std::snprintf(ready.why, sizeof ready.why, "%s", server.error().message());
  if (ready.ok) {
    if (const Status status = host::confine(host::ThreadRole::Share); !status) {
      ready.ok = false;
      std::snprintf(ready.why, sizeof ready.why, "%s", status.error().message());
    }
  }
  if (send_bytes(channel.number(), &ready, sizeof ready) && ready.ok) {
    const auto service = std::make_unique<Service>(channel.number(), server.take(), ram);
    service->run();
  }
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<ShareProcess>> ShareProcess::start(const ShareConfig& config, std::span<u8> ram) {
  const host::UniqueFd folder(open(config.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return host::errno_error("Cannot share", config.path.c_str());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return host::errno_error("Cannot make a pair of sockets");
  host::UniqueFd ours(ends[0]);
  host::UniqueFd theirs(ends[1]);
  const pid_t process = fork();
  if (process < 0) return host::errno_error("Cannot start a process");
  if (process == 0) serve(theirs.number(), folder.number(), config, ram);
  theirs = host::UniqueFd();
  std::unique_ptr<ShareProcess> share(new ShareProcess(std::move(ours), process, ram));
  Ready ready;
  ssize_t got;
  do {
    got = read(share->channel_.number(), &ready, sizeof ready);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(sizeof ready))
    return Error("The server of the shared folder ").append(config.path.c_str()).append(" has not started.");
  if (!ready.ok) return Error(ready.why).append(" (").append(config.path.c_str()).append(")");
  share->enclosed_ = ready.enclosed;
  const int flags = fcntl(share->channel_.number(), F_GETFL);
  fcntl(share->channel_.number(), F_SETFL, flags | O_NONBLOCK);
  return share;
}

ShareProcess::~ShareProcess() {
  channel_ = host::UniqueFd();
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// The server reads all the time but while it works: there is room soon.
bool ShareProcess::send(const Question& question) {
  while (write(channel_.number(), &question, question.bytes()) < 0) {
    if (errno != EAGAIN && errno != EINTR) return false;
    pollfd entry = {channel_.number(), POLLOUT, 0};
    poll(&entry, 1, -1);
  }
  return true;
}

// An I/O error, as far as there is room to say so.
void ShareProcess::refuse(FileRequest& request) const {
  virtio::fs::AnswerHeader header = {sizeof header, -EIO, 0};
  request.written = 0;
  fuse_in_header asked = {};
  if (request.readable == 0 || request.segments[0].bytes < sizeof asked || request.readable == request.total)
    return;
  std::memcpy(&asked, request.segments[0].host, sizeof asked);
  const virtio::Segment& first = request.segments[request.readable];
  if (asked.opcode == FUSE_FORGET || first.bytes < sizeof header) return;
  header.unique = asked.unique;
  std::memcpy(first.host, &header, sizeof header);
  request.written = sizeof header;
}

bool ShareProcess::submit(FileRequest& request) {
  if (!gone_) {
    Question question;
    question.tag = request.slot;
    question.readable = static_cast<u16>(request.readable);
    question.total = static_cast<u16>(request.total);
    for (unsigned i = 0; i < request.total; ++i) {
      // Devices reach guest RAM only.
      const auto offset = static_cast<u64>(request.segments[i].host - ram_.data());
      question.pieces[i] = {offset, request.segments[i].bytes, 0};
    }
    asked_[request.slot] = &request;
    if (send(question)) return false;
    asked_[request.slot] = nullptr;
  }
  refuse(request);
  return true;
}

void ShareProcess::dispatch() {
  while (!gone_) {
    Answer answer;
    const ssize_t got = read(channel_.number(), &answer, sizeof answer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return;
    FileRequest* request = got == static_cast<ssize_t>(sizeof answer) && answer.tag < virtio::fs::Fs::kSlots
                               ? asked_[answer.tag]
                               : nullptr;
    if (request == nullptr || answer.written > request->writable_bytes) return lost();
    asked_[answer.tag] = nullptr;
    request->written = answer.written;
    device_->completed(*request);
  }
}

void ShareProcess::lost() {
  gone_ = true;
  static constexpr char kLine[] =
      "nacre: The server of a shared folder has ended; the guest is given I/O errors.\n";
  static_cast<void>(!::write(2, kLine, sizeof kLine - 1));
  // What was asked of it has no answer.
  for (FileRequest*& asked : asked_) {
    if (asked == nullptr) continue;
    FileRequest& request = *std::exchange(asked, nullptr);
    refuse(request);
    device_->completed(request);
  }
}

void ShareProcess::reset() {
  Question question;
  question.kind = Question::Reset;
  if (!gone_) static_cast<void>(send(question));
}

}  // namespace nacre::share
