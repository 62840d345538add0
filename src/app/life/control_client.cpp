#include "app/life/control_client.hpp"

#include <fcntl.h>

#include <cerrno>

#include "host/error.hpp"
#include "host/passed_files.hpp"
#include "vsock/listener.hpp"

namespace nacre::app {
namespace {

Result<life::JsonObject> ask_at(const host::UniqueFd& socket, const Error& unanswered,
                                const life::JsonObject& request, std::span<const host::UniqueFd> files) {
  const std::string line = request.line() + "\n";
  std::string text;
  const std::span<const u8> whole(reinterpret_cast<const u8*>(line.data()), line.size());
  const ssize_t sent = host::send_with_files(socket.number(), whole, files);
  if (sent > 0 && host::write_all(socket.number(), whole.subspan(static_cast<usize>(sent)))) {
    char bytes[1024];
    for (;;) {
      const ssize_t got = read(socket.number(), bytes, sizeof bytes);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      text.append(bytes, static_cast<usize>(got));
      if (text.find('\n') != std::string::npos) break;
    }
  }
  const auto answer = life::JsonObject::parse(text);
  if (!answer) return unanswered;
  if (!answer->is_true("ok")) return Error(answer->text("error", "It was refused without a reason.").c_str());
  return *answer;
}

}  // namespace

Result<life::JsonObject> ask(const life::Folder& folder, const life::JsonObject& request,
                             std::span<const host::UniqueFd> files) {
  const auto socket = TRY(life::connect_to(folder, "control.sock"));
  const Error unanswered = Error("The machine \"")
                               .append(folder.name().c_str())
                               .append("\" went without an answer; nacre ls says how it is now.");
  return ask_at(socket, unanswered, request, files);
}

Result<life::JsonObject> ask(const std::string& path, const life::JsonObject& request,
                             std::span<const host::UniqueFd> files) {
  const auto socket = TRY(vsock::connect_to(path));
  fcntl(socket.number(), F_SETFL, 0);  // it waits for the answer
  const Error unanswered = Error("The machine at ").append(path.c_str()).append(" went without an answer.");
  return ask_at(socket, unanswered, request, files);
}

}  // namespace nacre::app
