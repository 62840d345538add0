// What an Exec frame asks for: the command's words and environment, who runs it and where. Kept in memory of
// this file's, of which a process has one: it runs one command.
#pragma once

#include "agent/guest/user.hpp"
#include "agent/wire.hpp"

namespace nacre::agent {

// Why not: errno of either sign, and of what; 0: nothing is wrong.
struct Failure {
  long error = 0;
  const char* about = "";
};

struct CommandRequest {
  User user;
  const char* folder = "";  // none: the user's home
  bool terminal = false;
  WindowSize size;
  char** words = nullptr;        // ended by null; none: the user's login shell, and room for its name
  char** environment = nullptr;  // ended by null
};

// From the frame that the wire has just received.
Failure parse_command(const Wire& wire, CommandRequest& request);

inline constexpr char kUsualPath[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool begins(const char* text, const char* with);
// `first` and `second` at `to`, which has room; returns it.
char* join(char* to, const char* first, const char* second);

}  // namespace nacre::agent
