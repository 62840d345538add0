#include "app/life/create_command.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "app/exit_status.hpp"
#include "app/guest_shares.hpp"
#include "app/life/machine_process.hpp"
#include "host/error.hpp"
#include "host/guest_ram.hpp"
#include "storage/tools.hpp"

namespace nacre::app {
namespace {

constexpr const char* kNameHere = "{name}";  // in an image's command line

constexpr const char* kFooter =
    R"(The first machine from debian:12 waits some minutes while the image is made, of Debian's packages and without
root; later ones are there at once. Each has its own disk, which holds only what differs from the image.

Its folder is ~/.local/share/nacre/vms/NAME; what it is like is in nacre.toml there.

Examples:
  nacre create web
  nacre create build --cpus 2 --memory 2G --disk 20G
  nacre create site --net user,publish=8080:80
  nacre create dev --share ~/src
  nacre create toy --from ./folder         a vmlinuz, and if you like initrd, disk.qcow2, image.toml
)";

// The folder in which the machine is made, until it has its name.
class Beginning {
 public:
  static Result<Beginning> create(const life::Folder& folder) {
    const std::string parent = std::filesystem::path(folder.path()).parent_path();
    TRY(life::make_folders(parent));
    std::string path = parent + "/.creating-XXXXXX";
    if (mkdtemp(path.data()) == nullptr) return host::errno_error("Cannot make a folder in", parent.c_str());
    return Beginning(path);
  }
  Beginning(Beginning&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Beginning(const Beginning&) = delete;
  Beginning& operator=(const Beginning&) = delete;
  Beginning& operator=(Beginning&&) = delete;
  ~Beginning() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  Status finish(const life::Folder& folder) {
    // Not over one that came meanwhile.
    if (renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, folder.path().c_str(), RENAME_NOREPLACE) != 0)
      return host::errno_error("Cannot name the machine's folder", folder.path().c_str());
    path_.clear();
    return {};
  }

 private:
  explicit Beginning(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace

CreateCommand::CreateCommand(CLI::App& app)
    : command_(app.add_subcommand(
          "create", "Make a virtual machine with a name, a Debian system unless told otherwise")) {
  command_->footer(kFooter);
  command_->add_option("NAME", name_, "Of the new machine")->required()->type_name("");
  command_->add_option("--from", from_, "The image: debian:12, or a folder")
      ->type_name("IMAGE")
      ->capture_default_str();
  command_
      ->add_option("--disk", disk_,
                   "Size of its disk; as large as the image's, but for Debian 8G, unless told")
      ->type_name("SIZE");
  command_->add_option("--cpus", cpus_, "Number of processors, 1 to 32")
      ->type_name("COUNT")
      ->capture_default_str();
  command_->add_option("--memory", memory_, "Guest memory")->type_name("SIZE")->capture_default_str();
  command_
      ->add_option("--net", networks_, "Its network, as --net of nacre boot, or none; may be given again. Unless told: user, a way out")
      ->type_name("KIND")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_
      ->add_option("--share", shares_, "Share this folder with it, at the same place there unless at= says another; may be given again")
      ->type_name("FOLDER[,readonly][,at=/PLACE]")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command_->add_option("--slots", slots_, "Slots for devices that come while it runs (nacre attach), 0 to 8")
      ->type_name("COUNT")
      ->check(CLI::Range(0, 8))
      ->capture_default_str();
}

int CreateCommand::run() {
  const Status status = create();
  if (status) return 0;
  complain(status.error());
  return ExitStatus::bad_input;
}

Status CreateCommand::create() {
  const life::Folder folder = TRY(life::Folder::of(name_));
  if (access(folder.path().c_str(), F_OK) == 0)
    return Error("There is a machine \"")
        .append(name_.c_str())
        .append("\" already; nacre rm ")
        .append(name_.c_str())
        .append(" removes it, with its disk.");
  // What is wrong with the options should show before minutes of work.
  life::MachineConfig wanted;
  wanted.memory = memory_;
  wanted.cpus = cpus_;
  if (networks_ == std::vector<std::string>{"none"}) networks_.clear();
  wanted.networks = networks_;
  for (std::string& text : shares_) {
    const share::ShareConfig share = TRY(share::parse(text));
    std::error_code failed;
    const std::string path = std::filesystem::canonical(share.path, failed).string();
    if (failed) return host::error_with_number(failed.value(), "Cannot share", share.path.c_str());
    text = path + text.substr(share.path.size());  // whoever starts it, from wherever
  }
  wanted.shares = shares_;
  const auto shares = TRY(parse_shares(shares_));
  TRY(mount_units(shares));
  TRY(machine_config(folder, wanted, host::ClockPair::read()));
  if (!disk_.empty()) TRY(host::parse_size(disk_.c_str()));

  const Image image = TRY(find_image(from_));
  auto beginning = TRY(Beginning::create(folder));
  TRY(fill(beginning.path(), image));
  return beginning.finish(folder);
}

Status CreateCommand::fill(const std::string& folder, const Image& image) const {
  life::MachineConfig config;
  config.image = image.manifest.name;
  config.cpus = cpus_;
  config.memory = memory_;
  config.networks = networks_;
  config.shares = shares_;
  config.slots = slots_;
  config.kernel = image.kernel;
  config.initrd = image.initrd;
  config.modules = image.modules;
  config.append = image.manifest.append;
  if (const usize at = config.append.find(kNameHere); at != std::string::npos)
    config.append.replace(at, std::strlen(kNameHere), name_);
  if (!image.disk.empty() || !disk_.empty()) {
    TRY(make_disk(folder + "/disk.qcow2", image));
    config.disks.push_back({"disk.qcow2", false});
  }
  return life::replace_file(folder + "/nacre.toml", life::write_config(config));
}

Status CreateCommand::make_disk(const std::string& path, const Image& image) const {
  const auto loop = TRY(storage::Loop::create());
  storage::CreateRequest request;
  request.path = path;
  request.backing = image.disk;
  if (!image.disk.empty()) request.backing_format = storage::Format::Qcow2;
  const std::string size = disk_.empty() && image.manifest.name == "debian:12" ? "8G" : disk_;
  if (!size.empty()) request.size = TRY(host::parse_size(size.c_str()));
  if (!image.disk.empty() && !size.empty()) {
    const auto base = TRY(storage::image_info(*loop, image.disk, storage::Format::Qcow2));
    if (request.size < base.front().size)
      return Error("The image's disk has ")
          .append_number(base.front().size / kMiB)
          .append(" MiB; --disk cannot be less.");
  }
  return storage::create_image(*loop, request);
}

}  // namespace nacre::app
