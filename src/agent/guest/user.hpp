// Users of the guest, from /etc/passwd and /etc/group: there is no C library to ask, and no name service in a
// small guest.
#pragma once

#include "base/types.hpp"

namespace nacre::agent {

struct User {
  u32 id = 0, group = 0;
  char name[64] = "root";
  char home[256] = "/";
  char shell[256] = "/bin/sh";
  u32 groups[64] = {};
  unsigned group_count = 0;
};

// "name" or a number; empty: root, who is there even without a file. 0 or an error number.
int find_user(const char* text, User& user);
// The calling process becomes that user, for good. 0 or an error number.
int become(const User& user);

}  // namespace nacre::agent
