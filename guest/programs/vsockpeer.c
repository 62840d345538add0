// The guest's side of the test of virtio sockets (guest/tests/virtio_vsock, src/vsock/vsockpeer.cpp has the other):
// servers at ports 52 (sends back what it gets), 53 (sends 8 MiB to whoever connects) and 54 (counts what it gets and
// says so); connections to the host that are taken and refused. Ends when somebody connects to port 55.
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

#include "check.h"

enum { kFirst = 52, kPorts = 4, kSource = 8 << 20 };

static int make(unsigned cid, unsigned port, struct sockaddr_vm *address) {
  memset(address, 0, sizeof *address);
  address->svm_family = AF_VSOCK;
  address->svm_cid = cid;
  address->svm_port = port;
  return socket(AF_VSOCK, SOCK_STREAM, 0);
}

static void put(int file, const char *bytes, size_t count) {
  while (count > 0) {
    const ssize_t done = write(file, bytes, count);
    if (done <= 0) exit(1);
    bytes += done;
    count -= (size_t)done;
  }
}

static size_t drain(int file, int back) {
  static char bytes[65536];
  size_t total = 0;
  for (ssize_t got; (got = read(file, bytes, sizeof bytes)) > 0; total += (size_t)got) {
    if (back) put(file, bytes, (size_t)got);
  }
  return total;
}

static void serve(int file, unsigned port) {
  if (port == 52) drain(file, 1);
  if (port == 53) {
    static char bytes[65536];
    for (unsigned i = 0; i < sizeof bytes; ++i) bytes[i] = (char)(i * 7);
    for (size_t sent = 0; sent < kSource; sent += sizeof bytes) put(file, bytes, sizeof bytes);
  }
  if (port == 54) {
    char text[32];
    snprintf(text, sizeof text, "%zu\n", drain(file, 0));
    put(file, text, strlen(text));
  }
}

static void to_the_host(void) {
  struct sockaddr_vm address;
  int file = make(VMADDR_CID_HOST, 1001, &address);
  CHECK(connect(file, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNRESET);
  close(file);
  file = make(VMADDR_CID_HOST, 1000, &address);
  CHECK(connect(file, (struct sockaddr *)&address, sizeof address) == 0);
  static char bytes[300000];
  put(file, bytes, sizeof bytes);
  CHECK(shutdown(file, SHUT_WR) == 0);
  char text[32] = "";
  CHECK(read(file, text, sizeof text - 1) > 0 && strcmp(text, "300000\n") == 0);
  CHECK(read(file, text, sizeof text) == 0);
  close(file);
}

int main(int count, char **arguments) {
  if (count < 2 || strcmp(arguments[1], "serve") != 0) {  // run with the other programs: nothing to do
    puts("PASS vsockpeer");
    return 0;
  }
  signal(SIGCHLD, SIG_IGN);
  struct pollfd entries[kPorts];
  for (unsigned i = 0; i < kPorts; ++i) {
    struct sockaddr_vm address;
    entries[i].fd = make(VMADDR_CID_ANY, kFirst + i, &address);
    entries[i].events = POLLIN;
    CHECK(bind(entries[i].fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(entries[i].fd, 64) == 0);
  }
  to_the_host();
  puts("VSOCK serves");
  fflush(stdout);
  for (;;) {
    poll(entries, kPorts, -1);
    for (unsigned i = 0; i < kPorts; ++i) {
      if (entries[i].revents == 0) continue;
      const int file = accept(entries[i].fd, NULL, NULL);
      if (file < 0) continue;
      if (kFirst + i == 55) return verdict("vsockpeer");
      if (fork() == 0) {
        serve(file, kFirst + i);
        close(file);
        _exit(0);
      }
      close(file);
    }
  }
}
