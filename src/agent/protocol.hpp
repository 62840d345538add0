// What the host and the agent in a guest say to each other: docs/agent.md. Used on both sides; freestanding.
//
// A connection carries one request: Hello, Welcome, the request, what belongs to it, and a last frame from
// the guest. Numbers are little endian, as both sides are x86-64.
#pragma once

#include "base/types.hpp"

namespace nacre::agent {

inline constexpr u32 kVersion = 1;
// Below 1024: no program of the guest without privilege can be taken for the agent.
inline constexpr u32 kPort = 620;

enum class Frame : u16 {
  // To the guest.
  Hello = 1,     // u32 version
  Exec = 2,      // ExecRequest and its texts
  Input = 3,     // bytes of stdin; none: its end
  Resize = 4,    // WindowSize
  Signal = 5,    // u32 number, for the command's process group
  Put = 6,       // u32 flags (CopyFlag), user, path; then a tree
  Get = 7,       // u32 flags, user, path
  Ping = 8,      // nothing
  // A tree of files, either way.
  File = 20,       // Attributes, name; then Data, End
  Data = 21,       // bytes
  End = 22,        // nothing
  Directory = 23,  // Attributes, name; then what is in it, Leave
  Leave = 24,      // nothing
  Link = 25,       // name, target, each ended by a zero byte
  Problem = 26,    // u32 errno, name: it was left out
  // To the host.
  Welcome = 40,  // u32 version
  Started = 41,  // nothing
  Output = 42,   // bytes of stdout
  Error = 43,    // bytes of stderr
  Credit = 44,   // u32: so many bytes of input are no longer in the way
  Exited = 45,   // u32 status
  Killed = 46,   // u32 signal
  Done = 47,     // u32 problems, u32 errno of the first, its name
  Failed = 48,   // u32 errno, what it was about
};

struct Header {
  u32 bytes = 0;
  Frame type = Frame::Hello;
  u16 zero = 0;
};
static_assert(sizeof(Header) == 8);

inline constexpr u32 kMostPayload = 128 * 1024;
inline constexpr u32 kDataBytes = 32 * 1024;  // of a frame of bytes, at most
// Input under way or held for a command that does not read: signals and sizes must pass it.
inline constexpr u32 kWindow = 64 * 1024;
inline constexpr unsigned kMostDepth = 256;  // of directories

struct WindowSize {
  u16 rows = 0, columns = 0;
};

struct ExecFlag {
  static constexpr u32 terminal = 1;
};
// Behind it, each ended by a zero byte: user, directory, `words` words, `variables` times NAME=VALUE. No
// user: root. No directory: the user's home. No words: the user's shell, as at a login.
struct ExecRequest {
  u32 flags = 0;
  WindowSize size;
  u32 words = 0, variables = 0;
};

struct CopyFlag {
  static constexpr u32 into_directory = 1;  // the path must be one
};

struct Attributes {
  u32 mode = 0;  // permissions alone, 0777
  u32 nanoseconds = 0;
  i64 seconds = 0;  // of the last change of the content
};

}  // namespace nacre::agent
