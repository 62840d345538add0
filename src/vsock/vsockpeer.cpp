// The host's side of the test of virtio sockets: vsockpeer PATH. guest/programs/vsockpeer.c has the guest's.
// Prints the rates, then "VSOCK ok"; any other end is a failure.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "vsock/listener.hpp"

namespace {

using namespace nacre;
using Clock = std::chrono::steady_clock;

void want(bool true_, const char* what) {
  if (true_) return;
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

class Stream {
 public:
  explicit Stream(host::UniqueFd file) : file_(std::move(file)) {}
  void write(const std::string& bytes) {
    for (usize done = 0; done < bytes.size();) {
      wait(POLLOUT);
      const ssize_t sent =
          send(file_.number(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) done += static_cast<usize>(sent);
      want(sent > 0 || errno == EAGAIN, "writing");
    }
  }
  std::string read(usize most) {
    std::string bytes(most, 0);
    wait(POLLIN);
    const ssize_t got = ::read(file_.number(), bytes.data(), most);
    bytes.resize(got > 0 ? static_cast<usize>(got) : 0);
    return bytes;
  }
  std::string read_all() {
    std::string all;
    for (std::string some = read(65536); !some.empty(); some = read(65536)) all += some;
    return all;
  }
  std::string line() {
    std::string text;
    for (std::string byte = read(1); !byte.empty() && byte != "\n"; byte = read(1)) text += byte;
    return text;
  }
  void end() { shutdown(file_.number(), SHUT_WR); }

 private:
  void wait(short events) {
    pollfd entry = {file_.number(), events, 0};
    want(poll(&entry, 1, 60'000) == 1, "waiting took more than a minute");
  }
  host::UniqueFd file_;
};

Stream dial(const std::string& path, unsigned port) {
  Stream stream(vsock::connect_to(path).take());
  stream.write("CONNECT " + std::to_string(port) + "\n");
  return stream;
}
Stream reach(const std::string& path, unsigned port) {
  Stream stream = dial(path, port);
  want(stream.line().starts_with("OK "), "the guest takes the connection");
  return stream;
}

std::string noise(usize bytes, u64 seed) {
  std::string text(bytes, 0);
  for (char& byte : text) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<char>(seed >> 56);
  }
  return text;
}

void echo(const std::string& path, u64 number) {
  const std::string sent = noise(200'000, number);
  Stream stream = reach(path, 52);
  std::thread writer([&] {
    stream.write(sent);
    stream.end();
  });
  want(stream.read_all() == sent, "what comes back is what was sent");
  writer.join();
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  setvbuf(stdout, nullptr, _IOLBF, 0);
  const std::string path = arguments[1];
  // The guest connects first.
  auto listener = vsock::Listener::create(path + "_1000").take();
  pollfd entry = {listener.socket.number(), POLLIN, 0};
  want(poll(&entry, 1, 100'000) == 1, "the guest connects");
  {
    Stream stream(host::UniqueFd(accept(listener.socket.number(), nullptr, nullptr)));
    stream.write(std::to_string(stream.read_all().size()) + "\n");
  }
  unlink((path + "_1000").c_str());
  while (!dial(path, 54).line().starts_with("OK "))
    std::this_thread::sleep_for(std::chrono::milliseconds(100));

  want(dial(path, 99).read_all().empty(), "a port at which nobody listens");
  {
    Stream rude(vsock::connect_to(path).take());
    rude.write("GET / HTTP/1.0\n");
    want(rude.read_all().empty(), "another protocol is refused");
  }
  echo(path, 1);
  std::vector<std::thread> many;
  for (u64 i = 0; i < 40; ++i) many.emplace_back([&path, i] { echo(path, i); });
  for (auto& thread : many) thread.join();
  {
    // Who does not read holds up nobody else, and loses nothing.
    Stream slow = reach(path, 53);
    echo(path, 100);
    want(slow.read_all().size() == 8 << 20, "all of the guest's bytes");
    // Who goes away in the middle does no harm.
    reach(path, 53).read(1000);
    reach(path, 52).write(noise(100'000, 3));
  }
  echo(path, 101);
  const auto start = Clock::now();
  want(reach(path, 53).read_all().size() == 8 << 20, "all of the guest's bytes");
  std::printf("guest to host: %.1f MB/s\n", 8.39 / seconds_since(start));
  const auto then = Clock::now();
  Stream sink = reach(path, 54);
  for (int i = 0; i < 8; ++i) sink.write(noise(1 << 20, 5));
  sink.end();
  want(sink.line() == std::to_string(8 << 20), "the guest's count");
  std::printf("host to guest: %.1f MB/s\n", 8.39 / seconds_since(then));
  const auto first = Clock::now();
  for (int i = 0; i < 50; ++i) reach(path, 54);
  std::printf("connections: %.0f a second\n", 50 / seconds_since(first));
  reach(path, 55);
  std::printf("VSOCK ok\n");
}
