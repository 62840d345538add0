// The channel of `nacre run`: frames on the second serial port, between the nacre command and its agent in
// the guest. docs/adr/0004-run-channel.md. A frame is its type, the payload's length (16 bits, little
// endian), the payload. Used on both sides; freestanding.
#pragma once

#include <cstdint>

namespace nacre::app::channel {

enum class Frame : std::uint8_t {
  // To the guest.
  Input = 'i',   // bytes of stdin; an empty one is its end
  Signal = 's',  // one byte: send this signal to the command's process group
  // To the host.
  Ready = 'r',   // the command runs, input may come
  Output = 'o',  // bytes of stdout
  Error = 'e',   // bytes of stderr
  Credit = 'c',  // 4 bytes, little endian: that many input bytes are no longer in the way
  Exit = 'x',    // two bytes: ExitKind, status or signal. The last frame.
};

enum class ExitKind : std::uint8_t { Exited = 0, Killed = 1, NotStarted = 2 };

constexpr unsigned kHeaderBytes = 3;
constexpr unsigned kMostPayload = 4096;
// Input that may be under way at once: well below what the guest's tty layer buffers (64 KiB) before it
// drops bytes.
constexpr unsigned kWindow = 16384;

// In the guest's first root file system: the command's words, and its environment, each ended by a zero byte.
constexpr const char* kCommandFile = "/etc/nacre/command";
constexpr const char* kEnvironmentFile = "/etc/nacre/environment";
constexpr const char* kShareScript = "/etc/nacre/shares";
constexpr const char* kDirectoryFile = "/etc/nacre/directory";  // where the command starts, if there is one
constexpr const char* kNetworkScript = "/etc/nacre/network";
constexpr const char* kAgentPath = "/bin/nacre-agent";
constexpr const char* kGuestPort = "/dev/ttyS1";

}  // namespace nacre::app::channel
