// Both ends of a network test, on the host or in a guest: bytes that each end can make by itself are sent over TCP
// one way and compared at the other; datagrams of every size are echoed. Static, no names, IPv4 and IPv6.
//
//   netpeer serve PORT              TCP and UDP, on all addresses, until somebody says quit; "ready" when it listens
//   netpeer get|put HOST PORT MIB   prints MiB/s
//   netpeer echo HOST PORT MOST     datagrams of 1 … MOST bytes
//   netpeer ping HOST PORT COUNT    one byte there and back over TCP; prints microseconds each
//   netpeer quit HOST PORT
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kChunk = 1 << 16 };
static unsigned char sent[kChunk], got[kChunk];

static void die(const char* what) {
  fprintf(stderr, "netpeer: %s: %s\n", what, strerror(errno));
  exit(1);
}

// The bytes of chunk number `i`: no two alike, so that one lost, doubled or moved is seen.
static void fill(unsigned char* to, uint64_t i) {
  uint64_t state = (i + 1) * 0x9e3779b97f4a7c15;
  for (size_t at = 0; at < kChunk; at += 8) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    memcpy(to + at, &state, 8);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void write_all(int file, const void* from, size_t bytes) {
  for (const char* at = from; bytes != 0;) {
    const ssize_t n = write(file, at, bytes);
    if (n <= 0) die("write");
    at += n;
    bytes -= (size_t)n;
  }
}

static void read_all(int file, void* to, size_t bytes) {
  for (char* at = to; bytes != 0;) {
    const ssize_t n = read(file, at, bytes);
    if (n < 0) die("read");
    if (n == 0) errno = 0, die("the other end closed early");
    at += n;
    bytes -= (size_t)n;
  }
}

static void send_chunks(int file, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    fill(sent, i);
    write_all(file, sent, kChunk);
  }
}

static void check_chunks(int file, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    read_all(file, got, kChunk);
    fill(sent, i);
    if (memcmp(sent, got, kChunk) != 0) errno = EILSEQ, die("wrong bytes");
  }
}

static int open_socket(int family, int type) {
  const int file = socket(family, type, 0), on = 1;
  if (file < 0) die("socket");
  setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  return file;
}

static int connect_to(const char* host, const char* port, int type) {
  struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = four.sin_port};
  const int is_four = inet_pton(AF_INET, host, &four.sin_addr) == 1;
  if (!is_four && inet_pton(AF_INET6, host, &six.sin6_addr) != 1) errno = EINVAL, die(host);
  const int file = open_socket(is_four ? AF_INET : AF_INET6, type), on = 1;
  const int status = is_four ? connect(file, (struct sockaddr*)&four, sizeof four)
                             : connect(file, (struct sockaddr*)&six, sizeof six);
  if (status != 0) die("connect");
  if (type == SOCK_STREAM) setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return file;
}

// A command is eight bytes: what, and how many chunks or bytes.
struct command {
  uint32_t what, count;
};
enum { kGet = 1, kPut, kPing, kQuit };

static void command(int file, uint32_t what, uint32_t count) {
  const struct command c = {what, count};
  write_all(file, &c, sizeof c);
}

static void obey(int file) {
  struct command c;
  const int on = 1;
  setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  read_all(file, &c, sizeof c);
  if (c.what == kGet) send_chunks(file, c.count);
  if (c.what == kPut) check_chunks(file, c.count), write_all(file, "+", 1);
  char byte;
  for (uint32_t i = 0; c.what == kPing && i < c.count; ++i) read_all(file, &byte, 1), write_all(file, &byte, 1);
  if (c.what == kQuit) kill(getppid(), SIGTERM);
  exit(0);
}

static void serve(const char* port) {
  struct sockaddr_in6 all = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)atoi(port))};
  const int tcp = open_socket(AF_INET6, SOCK_STREAM), udp = open_socket(AF_INET6, SOCK_DGRAM);
  if (bind(tcp, (struct sockaddr*)&all, sizeof all) != 0 || bind(udp, (struct sockaddr*)&all, sizeof all) != 0) die("bind");
  if (listen(tcp, 16) != 0) die("listen");
  signal(SIGCHLD, SIG_IGN);
  puts("ready");
  fflush(stdout);
  for (;;) {
    struct pollfd files[2] = {{tcp, POLLIN, 0}, {udp, POLLIN, 0}};
    if (poll(files, 2, -1) < 0) continue;
    if (files[1].revents != 0) {
      struct sockaddr_in6 from;
      socklen_t length = sizeof from;
      const ssize_t n = recvfrom(udp, got, sizeof got, 0, (struct sockaddr*)&from, &length);
      if (n >= 0) sendto(udp, got, (size_t)n, 0, (struct sockaddr*)&from, length);
    }
    if (files[0].revents != 0) {
      const int file = accept(tcp, NULL, NULL);
      if (file >= 0 && fork() == 0) obey(file);
      close(file);
    }
  }
}

static void echo(int file, int most) {
  fill(sent, 7);
  // Small ones all, then ever fewer. A datagram may be lost; three in a row are not.
  for (int bytes = 1; bytes <= most; bytes += 1 + bytes / 32) {
    ssize_t n = -1;
    for (int tries = 0; tries < 3 && n != bytes; ++tries) {
      if (send(file, sent, (size_t)bytes, 0) != bytes) die("send");
      struct pollfd waiting = {file, POLLIN, 0};
      while (n != bytes && poll(&waiting, 1, 2000) == 1) n = recv(file, got, sizeof got, 0);
    }
    if (n != bytes || memcmp(sent, got, (size_t)bytes) != 0) {
      fprintf(stderr, "netpeer: a datagram of %d bytes came back as %zd\n", bytes, n);
      exit(1);
    }
  }
}

int main(int argc, char** argv) {
  signal(SIGPIPE, SIG_IGN);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) serve(argv[2]);
  if (argc == 5 && strcmp(argv[1], "echo") == 0) {
    echo(connect_to(argv[2], argv[3], SOCK_DGRAM), atoi(argv[4]));
    return 0;
  }
  if (argc != 5 && (argc != 4 || strcmp(argv[1], "quit") != 0)) {
    fputs("netpeer: see its source for what it takes\n", stderr);
    return 2;
  }
  const int file = connect_to(argv[2], argv[3], SOCK_STREAM);
  const double start = now();
  const uint32_t amount = argc == 5 ? (uint32_t)atoi(argv[4]) : 0;
  char byte = 0;
  if (strcmp(argv[1], "get") == 0) {
    command(file, kGet, amount * 16);
    check_chunks(file, amount * 16);
  } else if (strcmp(argv[1], "put") == 0) {
    command(file, kPut, amount * 16);
    send_chunks(file, amount * 16);
    read_all(file, &byte, 1);
  } else if (strcmp(argv[1], "ping") == 0) {
    command(file, kPing, amount);
    for (uint32_t i = 0; i < amount; ++i) write_all(file, &byte, 1), read_all(file, &byte, 1);
    printf("%.1f us\n", (now() - start) * 1e6 / amount);
    return 0;
  } else {
    command(file, kQuit, 0);
    return 0;
  }
  printf("%s %.1f MiB/s\n", argv[1], amount / (now() - start));
  return 0;
}
