#include "agent/guest/request.hpp"

#include "agent/system.hpp"

namespace nacre::agent {
namespace {

constexpr unsigned kMostWords = 8192;

// All of the request, kept while the wire's payload is overwritten.
u8 request_text[kMostPayload];
char* words[kMostWords + 2];
char* environment[kMostWords + 8];
char home_text[300], user_text[80], logname_text[80], shell_text[300];

void add_defaults(const User& user) {
  bool path = false;
  unsigned count = 0;
  for (; environment[count] != nullptr; ++count) path = path || begins(environment[count], "PATH=");
  if (!path) environment[count++] = const_cast<char*>(kUsualPath);
  // What was asked for stands before and is found first.
  environment[count++] = join(home_text, "HOME=", user.home);
  environment[count++] = join(user_text, "USER=", user.name);
  environment[count++] = join(logname_text, "LOGNAME=", user.name);
  environment[count++] = join(shell_text, "SHELL=", user.shell);
}

}  // namespace

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

Failure parse_command(const Wire& wire, CommandRequest& request) {
  if (wire.bytes() < sizeof(ExecRequest)) return {EBADMSG, "request"};
  __builtin_memcpy(request_text, wire.payload(), wire.bytes());
  Payload payload(request_text, wire.bytes());
  const auto head = payload.value<ExecRequest>();
  const char* user = payload.text();
  request.folder = payload.text();
  if (head.words > kMostWords || head.variables > kMostWords) return {E2BIG, "request"};
  for (u32 i = 0; i < head.words; ++i) words[i] = const_cast<char*>(payload.text());
  for (u32 i = 0; i < head.variables; ++i) environment[i] = const_cast<char*>(payload.text());
  if (!payload.ok()) return {EBADMSG, "request"};
  request.terminal = (head.flags & ExecFlag::terminal) != 0;
  request.size = head.size;
  if (const int error = find_user(user, request.user); error != 0) return {error, user};
  add_defaults(request.user);
  request.words = words;
  request.environment = environment;
  return {};
}

}  // namespace nacre::agent
