#include "app/life/attach_command.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "app/disk_option.hpp"
#include "app/exit_status.hpp"
#include "app/life/control_client.hpp"
#include "app/machine_options.hpp"
#include "host/error.hpp"
#include "net/process.hpp"
#include "storage/open.hpp"

namespace nacre::app {
namespace {

constexpr const char* kControl =
    "The machine: the socket that nacre boot --control has made, instead of a name";
constexpr const char* kAttachFooter =
    R"(The machine needs a free slot: nacre create --slots, or slots in its nacre.toml. Prints the device's name, which is
also its serial number in the guest: /dev/disk/by-id/virtio-slot1. It stays through a reboot of the guest, and leaves
with nacre detach or when the machine ends. Without --disk and --net: what is attached.

Examples:
  nacre attach web --disk data.qcow2
  nacre attach web --disk image.iso,readonly
  nacre attach web --net user,publish=8080:80
  nacre attach web
  nacre attach --control vm.sock --disk data.qcow2    a machine of nacre boot
)";
constexpr const char* kDetachFooter =
    R"(Unmount a disk in the guest first. The guest is asked, as by the button beside a slot; Linux waits five seconds, in case
that somebody has second thoughts, and then switches the slot off. When this command has succeeded, the image is closed
and nobody's, the network is gone and its published ports are free.

Example:
  nacre detach web slot1
)";

// The files of an image, opened and locked as for a machine, which is given them.
Result<std::vector<host::UniqueFd>> open_files(const vm::DiskConfig& disk) {
  const auto loop = TRY(storage::Loop::create());
  std::vector<host::UniqueFd> files;
  storage::OpenOptions options = vm::open_options(disk);
  options.kept = &files;
  const auto image = TRY(storage::open_image(*loop, disk.path, options));
  TRY(image->close());
  return files;
}

}  // namespace

AttachCommand::AttachCommand(CLI::App& app)
    : attach_(app.add_subcommand("attach", "Give a machine that runs a further disk or network")),
      detach_(app.add_subcommand("detach", "Take back what was attached to a machine that runs")) {
  attach_->footer(kAttachFooter);
  attach_->add_option("NAME", name_, "Of the machine; not with --control")->type_name("");
  attach_->add_option("--control", socket_, kControl)->type_name("PATH");
  auto* const disk = attach_->add_option("--disk", disk_, "A disk image, as --disk of nacre boot")
                         ->type_name("FILE[,readonly][,format=raw|qcow2][,iops=N][,bandwidth=BYTES]");
  attach_->add_option("--net", network_, "A network, as --net of nacre boot, but with one pair of queues")
      ->type_name("KIND[,OPTION=VALUE]")
      ->excludes(disk);
  detach_->footer(kDetachFooter);
  detach_->add_option("NAME", name_, "Of the machine; not with --control")->type_name("");
  detach_
      ->add_option("DEVICE", device_,
                   "As nacre attach has named it: slot1, or the image's file, or the network")
      ->type_name("");
  detach_->add_option("--control", socket_, kControl)->type_name("PATH");
  detach_->add_flag("--force", force_,
                    "Pull it out: the guest is told, not asked, and what it had not written is lost");
  detach_->add_option("--timeout", timeout_, "Seconds to wait for the guest")
      ->type_name("SECONDS")
      ->capture_default_str();
}

int AttachCommand::run() {
  const Status status = attach_->parsed() ? attach() : detach();
  if (status) return 0;
  complain(status.error());
  return ExitStatus::bad_input;
}

Result<life::Folder> AttachCommand::folder() const {
  if (name_.empty())
    return Error{
        "Which machine? Give its name, or the socket of nacre boot --control, as in --control vm.sock."};
  auto folder = TRY(life::Folder::of(name_));
  TRY(folder.check_exists());
  return folder;
}

Result<life::JsonObject> AttachCommand::ask_machine(const life::JsonObject& request,
                                                    std::span<const host::UniqueFd> files) const {
  if (socket_.empty()) return ask(TRY(folder()), request, files);
  if (!name_.empty()) return Error{"A machine has a name or a --control socket; give one of them."};
  return ask(socket_, request, files);
}

Status AttachCommand::attach() const {
  if (disk_.empty() && network_.empty()) return list();
  const auto answer = disk_.empty() ? TRY(attach_network()) : TRY(attach_disk());
  std::printf("%s\n", answer.text("device").c_str());
  if (const std::string note = answer.text("note"); !note.empty()) complain(note.c_str());
  return {};
}

Result<life::JsonObject> AttachCommand::attach_disk() const {
  const vm::DiskConfig disk = TRY(parse_disk(disk_));
  // Before the image is touched.
  TRY(ask_machine(life::JsonObject().set("do", "status")));
  const auto files = TRY(open_files(disk));
  std::error_code ignored;
  const auto path = std::filesystem::absolute(disk.path, ignored);
  life::JsonObject request;
  request.set("do", "attach").set("disk", path.string());
  request.set("format", disk.format == storage::Format::Detect ? "" : storage::name_of(disk.format));
  request.set("read-only", disk.read_only);
  request.set("iops", static_cast<i64>(disk.limits.operations));
  request.set("bandwidth", static_cast<i64>(disk.limits.bytes));
  return ask_machine(request, files);
}

Result<life::JsonObject> AttachCommand::attach_network() const {
  const net::NetConfig network = TRY(net::parse(network_));
  if (network.queues != 1)
    return Error{
        "A network that is attached has one pair of queues: leave queues= away, or give it in nacre.toml."};
  TRY(ask_machine(life::JsonObject().set("do", "status")));
  const std::string path = socket_.empty() ? TRY(folder()).nacre_log() : "/dev/null";
  const host::UniqueFd log(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!log) return host::errno_error("Cannot write", path.c_str());
  // Where it is refused, the process ends with the cable's last end.
  std::vector<host::UniqueFd> cable;
  cable.push_back(TRY(net::start_process(network, log)));
  return ask_machine(life::JsonObject().set("do", "attach").set("net", network_), cable);
}

Status AttachCommand::list() const {
  const auto answer = TRY(ask_machine(life::JsonObject().set("do", "devices")));
  std::printf("%s", answer.text("devices").c_str());
  return {};
}

Status AttachCommand::detach() {
  if (!socket_.empty() && device_.empty()) std::swap(name_, device_);  // the only word
  if (device_.empty()) return Error{"nacre detach wants the device's name, as in nacre detach web slot1."};
  if (!std::isfinite(timeout_) || timeout_ < 0) return Error{"--timeout wants seconds, as 30."};
  // A file may be named as at attach.
  std::string device = device_;
  std::error_code ignored;
  if (std::filesystem::exists(device, ignored)) device = std::filesystem::absolute(device, ignored).string();
  life::JsonObject request;
  request.set("do", "detach").set("device", device).set("force", force_);
  request.set("timeout", static_cast<i64>(std::ceil(std::min(timeout_, 86400.0))));
  TRY(ask_machine(request));
  return {};
}

}  // namespace nacre::app
