// ShareProcess: a share's server as a process of its own beside the virtual machine's, and the channel to it.
// The machine's process opens no file of the shared folder; the server has nothing but that folder and guest
// memory, in which it stores what is read. Made while there is one thread; then on the thread that runs the
// device's queues.
#pragma once

#include <sys/types.h>

#include <memory>

#include "base/result.hpp"
#include "share/options.hpp"
#include "share/server.hpp"
#include "share/wire.hpp"
#include "virtio/fs/device.hpp"

namespace nacre::share {

class ShareProcess final : public virtio::fs::FileServer {
 public:
  // `ram`: the guest's, which is mapped to be shared with child processes.
  static Result<std::unique_ptr<ShareProcess>> start(const ShareConfig& config, std::span<u8> ram);
  ShareProcess(const ShareProcess&) = delete;
  ShareProcess& operator=(const ShareProcess&) = delete;
  // Returns when the process has ended.
  ~ShareProcess();

  // Readable when dispatch() has something to complete.
  [[nodiscard]] int descriptor() const { return channel_.number(); }
  void connect(virtio::fs::Fs& device) { device_ = &device; }
  [[nodiscard]] pid_t process() const { return process_; }
  [[nodiscard]] bool is_enclosed() const { return enclosed_; }

  [[nodiscard]] bool submit(virtio::fs::FileRequest& request) override;
  void dispatch() override;
  void reset() override;

 private:
  ShareProcess(host::UniqueFd channel, pid_t process, std::span<u8> ram)
      : channel_(std::move(channel)), process_(process), ram_(ram) {}
  bool send(const Question& question);
  void lost();
  void refuse(virtio::fs::FileRequest& request) const;

  host::UniqueFd channel_;
  const pid_t process_;
  const std::span<u8> ram_;
  virtio::fs::Fs* device_ = nullptr;
  virtio::fs::FileRequest* asked_[virtio::fs::Fs::kSlots] = {};
  bool enclosed_ = false;
  bool gone_ = false;  // the server is: every request is an error from then on
};

}  // namespace nacre::share
