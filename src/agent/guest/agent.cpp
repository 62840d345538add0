// nacre-agent: runs in a guest and does what the host asks for: commands, copies of files, an end.
// docs/agent.md.
//
//   nacre-agent               serves the guest's vsock port 620
//   nacre-agent --connection  serves one connection, which is its standard input: for tests, and for socket
//   units
//
// A process for each connection, a few kilobytes each. No C library.
#include <linux/vm_sockets.h>

#include <new>

#include "agent/guest/exec.hpp"
#include "agent/guest/process.hpp"
#include "agent/guest/user.hpp"
#include "agent/tree.hpp"

namespace nacre::agent {
namespace {

constexpr int kHelloMilliseconds = 10'000;

alignas(Wire) u8 wire_memory[sizeof(Wire)];
alignas(TreeReceiver) u8 receiver_memory[sizeof(TreeReceiver)];
alignas(TreeSender) u8 sender_memory[sizeof(TreeSender)];
char path_text[4097], user_text[256];

void say(const char* text) {
  sys::write(2, text, sys::length(text));
}

void fail(Wire& wire, int error, const char* what) {
  wire.send_value(Frame::Failed, static_cast<u32>(error), {what, sys::length(what) + 1});
}

void done(Wire& wire, const Problems& problems) {
  const u32 numbers[2] = {problems.count, problems.first_error};
  wire.send_value(Frame::Done, numbers, {problems.first_name, sys::length(problems.first_name) + 1});
}

template <usize size>
bool keep(char (&to)[size], const char* from) {
  const usize length = sys::length(from);
  if (length >= size) return false;
  __builtin_memcpy(to, from, length + 1);
  return true;
}

// As the user who was named, in his home. False: it was said why not.
bool prepare_copy(Wire& wire, u32& flags) {
  Payload payload(wire);
  flags = payload.value<u32>();
  const bool kept = keep(user_text, payload.text()) && keep(path_text, payload.text());
  if (!payload.ok() || !kept) return fail(wire, EBADMSG, "request"), false;
  User user;
  int error = find_user(user_text, user);
  if (error == 0) error = become(user);
  if (error != 0) return fail(wire, error, user_text), false;
  if (sys::chdir(user.home) < 0) sys::chdir("/");
  if (path_text[0] == 0) path_text[0] = '.';
  return true;
}

void put(Wire& wire) {
  u32 flags;
  if (!prepare_copy(wire, flags)) return;
  auto& receiver = *new (receiver_memory) TreeReceiver;
  if (const int error = receiver.place(path_text, (flags & CopyFlag::into_directory) != 0); error != 0)
    return fail(wire, error, path_text);
  wire.send(Frame::Started);
  while (!receiver.complete()) {
    if (!wire.receive()) return;
    if (!receiver.take(wire.type(), wire.payload(), wire.bytes())) return fail(wire, EBADMSG, path_text);
  }
  done(wire, receiver.problems());
}

void get(Wire& wire) {
  u32 flags;
  if (!prepare_copy(wire, flags)) return;
  auto& sender = *new (sender_memory) TreeSender(wire);
  const int error = sender.send(path_text);
  if (error > 0) return fail(wire, error, path_text);
  if (error == 0) done(wire, {});
}

void serve(int connection) {
  auto& wire = *new (wire_memory) Wire(connection);
  sys::set_signal(SIGPIPE, true);
  if (!wire.receive(kHelloMilliseconds) || wire.type() != Frame::Hello) return;
  const u32 version = Payload(wire).value<u32>();
  if (!wire.send_value(Frame::Welcome, kVersion) || version != kVersion) return;
  if (!wire.receive(kHelloMilliseconds)) return;
  switch (wire.type()) {
    case Frame::Exec:
      return run_command(wire);
    case Frame::Put:
      return put(wire);
    case Frame::Get:
      return get(wire);
    case Frame::Ping:
      return done(wire, {});
    default:
      return fail(wire, EBADMSG, "request");
  }
}

// The drivers may come later than we do.
int listen_for_hosts() {
  for (unsigned tries = 0;; ++tries) {
    const long file = sys::call(SYS_socket, AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (file >= 0) {
      sockaddr_vm address = {};
      address.svm_family = AF_VSOCK;
      address.svm_cid = VMADDR_CID_ANY;
      address.svm_port = kPort;
      if (sys::call(SYS_bind, file, sys::address(&address), sizeof address) < 0 ||
          sys::call(SYS_listen, file, 64) < 0) {
        say("nacre-agent: vsock port 620 cannot be listened at; is another agent running?\n");
        sys::exit(1);
      }
      return static_cast<int>(file);
    }
    if (tries == 0) say("nacre-agent: waiting for the vsock driver.\n");
    const timespec pause = {0, 100'000'000};
    sys::call(SYS_nanosleep, sys::address(&pause), 0);
  }
}

// Only the host may ask: other machines and programs of the guest have other numbers.
bool is_host(const sockaddr_vm& peer) {
  return peer.svm_family == AF_VSOCK && peer.svm_cid == VMADDR_CID_HOST;
}

[[noreturn]] void run() {
  const int listener = listen_for_hosts();
  sys::set_signal(SIGCHLD, true);  // nobody waits for the processes
  for (;;) {
    sockaddr_vm peer = {};
    u32 length = sizeof peer;
    const long connection =
        sys::call(SYS_accept4, listener, sys::address(&peer), sys::address(&length), SOCK_CLOEXEC);
    if (connection < 0) {
      const timespec pause = {0, 10'000'000};
      if (connection != -EINTR) sys::call(SYS_nanosleep, sys::address(&pause), 0);
      continue;
    }
    if (is_host(peer) && sys::fork() == 0) {
      sys::close(listener);
      serve(static_cast<int>(connection));
      sys::exit(0);
    }
    sys::close(static_cast<int>(connection));
  }
}

}  // namespace
}  // namespace nacre::agent

extern "C" [[noreturn]] void agent_main(const long* stack) {
  namespace agent = nacre::agent;
  if (stack[0] > 1) {
    agent::serve(0);
    agent::sys::exit(0);
  }
  agent::run();
}
