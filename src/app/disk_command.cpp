#include "app/disk_command.hpp"

#include <unistd.h>

#include <bit>

#include "app/disk_report.hpp"
#include "app/exit_status.hpp"
#include "app/machine_options.hpp"
#include "host/guest_ram.hpp"

namespace nacre::app {
namespace {

using storage::Format;

constexpr const char* kFooter = R"(Exit status:
  0  done; check: the image is sound, or was repaired
  2  could not be done; one sentence says why
  4  check: space is lost (leaked clusters), nothing else
  6  check: the image is damaged

Examples:
  nacre disk create system.qcow2 8G
  nacre disk create mine.qcow2 --backing system.qcow2
  nacre disk convert download.img system.qcow2
)";
constexpr int kLeaks = 4, kDamaged = 6;

Result<Format> format_of(const std::string& name) {
  if (name.empty()) return Format::Detect;
  const Format format = storage::format_named(name);
  if (format == Format::Detect)
    return Error("There is no format \"").append(name.c_str()).append("\"; there are raw and qcow2.");
  return format;
}

Result<u32> power_of(u64 value, const char* what) {
  if (std::has_single_bit(value)) return static_cast<u32>(std::countr_zero(value));
  return Error(what).append(" is a power of two.");
}

}  // namespace

DiskCommand::DiskCommand(CLI::App& app)
    : command_(app.add_subcommand("disk", "Make, describe, check, copy and enlarge disk images")) {
  command_->require_subcommand(1);
  command_->footer(kFooter);
  add_create(*command_);
  const auto add = [&](const char* name, const char* what) {
    CLI::App* command = command_->add_subcommand(name, what);
    command->add_option("FILE", file_, "The image")->required()->type_name("");
    command->add_option("--format", format_, "Its format, raw or qcow2, instead of what it looks like")
        ->type_name("FORMAT");
    return command;
  };
  info_ = add("info", "Describe an image and its backing files");
  info_->add_flag("--json", json_, "For programs");
  check_ = add("check", "Look for errors and lost space in a qcow2 image");
  check_->add_flag("--json", json_, "For programs");
  check_
      ->add_flag("--repair{leaks}", repair_,
                 "Give lost space back, and mend what was not closed; --repair=all: mend wrong counts too")
      ->type_name("WHAT");
  convert_ = add("convert", "Copy an image into another format, without its empty parts or snapshots");
  convert_->add_option("TARGET", target_, "The new image")->required()->type_name("");
  convert_->add_option("--to", target_format_, "Its format")->type_name("FORMAT")->capture_default_str();
  convert_->add_option("--snapshot", snapshot_, "Copy this internal snapshot, by name or number")
      ->type_name("NAME");
  add_geometry(*convert_);
  resize_ = add("resize", "Make the disk in an image larger");
  resize_->add_option("SIZE", size_, "Its new size, as 16G; or by how much it grows, as +8G")
      ->required()
      ->type_name("");
}

void DiskCommand::add_create(CLI::App& disk) {
  create_ = disk.add_subcommand("create", "Make an empty image, or an overlay on another");
  create_->add_option("FILE", file_, "The new image")->required()->type_name("");
  create_
      ->add_option("SIZE", size_,
                   "Of the disk, as 8G; an overlay is as large as its backing file unless told")
      ->type_name("");
  create_->add_option("--format", target_format_, "raw or qcow2")->type_name("FORMAT")->capture_default_str();
  create_->add_option("--backing", backing_, "What is read where nothing was written yet; it must not change")
      ->type_name("FILE");
  create_->add_option("--backing-format", backing_format_, "Its format, instead of what it looks like")
      ->type_name("FORMAT");
  add_geometry(*create_);
}

void DiskCommand::add_geometry(CLI::App& command) {
  command.add_option("--cluster-size", cluster_size_, "qcow2: 512 to 2M")
      ->type_name("SIZE")
      ->capture_default_str();
  command.add_option("--compat", compat_, "qcow2: version 2 or 3")
      ->type_name("VERSION")
      ->capture_default_str();
  command.add_option("--refcount-bits", refcount_bits_, "qcow2: 1 to 64")
      ->type_name("BITS")
      ->capture_default_str();
  command.add_flag("--lazy-refcounts", lazy_refcounts_, "qcow2: allow QEMU to write counts late");
}

Status DiskCommand::set_geometry(storage::CreateRequest& request) const {
  request.format = TRY(format_of(target_format_));
  if (request.format == Format::Detect) request.format = Format::Qcow2;
  const u64 cluster = TRY(host::parse_size(cluster_size_.c_str()));
  request.qcow2.cluster_bits = TRY(power_of(cluster, "A cluster's size"));
  request.qcow2.refcount_order = TRY(power_of(refcount_bits_, "The number of a refcount's bits"));
  request.qcow2.version = compat_;
  request.qcow2.lazy_refcounts = lazy_refcounts_;
  return {};
}

Result<int> DiskCommand::create() {
  storage::CreateRequest request;
  TRY(set_geometry(request));
  request.path = file_;
  request.backing = backing_;
  request.backing_format = TRY(format_of(backing_format_));
  if (!size_.empty()) request.size = TRY(host::parse_size(size_.c_str()));
  if (size_.empty() && backing_.empty())
    return Error{"A disk needs a size, as in nacre disk create disk.qcow2 8G."};
  const auto loop = TRY(storage::Loop::create());
  TRY(storage::create_image(*loop, request));
  return 0;
}

Result<int> DiskCommand::info() {
  const auto loop = TRY(storage::Loop::create());
  const Format format = TRY(format_of(format_));
  const auto chain = TRY(storage::image_info(*loop, file_, format));
  json_ ? print_info_json(chain) : print_info(chain);
  return 0;
}

Result<int> DiskCommand::check() {
  auto repair = storage::qcow2::Repair::Nothing;
  if (repair_ == "leaks") {
    repair = storage::qcow2::Repair::Leaks;
  } else if (repair_ == "all") {
    repair = storage::qcow2::Repair::Counts;
  } else if (!repair_.empty()) {
    return Error("--repair takes leaks or all, not \"").append(repair_.c_str()).append("\".");
  }
  const auto loop = TRY(storage::Loop::create());
  const Format format = TRY(format_of(format_));
  const auto report = TRY(storage::check_image(*loop, file_, format, repair));
  json_ ? print_check_json(report) : print_check(report);
  if (report.corruptions != report.corruptions_repaired || report.is_marked_corrupt) return kDamaged;
  return report.leaks != report.leaks_repaired || report.is_dirty ? kLeaks : 0;
}

Result<int> DiskCommand::convert() {
  storage::ConvertRequest request;
  request.source = file_;
  request.source_format = TRY(format_of(format_));
  request.snapshot = snapshot_;
  request.target.path = target_;
  TRY(set_geometry(request.target));
  const auto loop = TRY(storage::Loop::create());
  const bool shows = isatty(STDERR_FILENO) != 0;
  u64 shown = 101;
  const Status done = storage::convert_image(*loop, request, [&](u64 bytes, u64 all) {
    const u64 percent = static_cast<u64>(static_cast<u128>(bytes) * 100 / all);
    if (shows && percent != shown) std::fprintf(stderr, "\r%3u %%", static_cast<unsigned>(percent));
    shown = percent;
  });
  if (shows && shown != 101) std::fprintf(stderr, "\r\033[K");
  if (!done) return done.error();
  return 0;
}

Result<int> DiskCommand::resize() {
  const bool adds = size_.starts_with('+');
  u64 size = TRY(host::parse_size(size_.c_str() + (adds ? 1 : 0)));
  const auto loop = TRY(storage::Loop::create());
  const Format format = TRY(format_of(format_));
  if (adds) {
    const auto chain = TRY(storage::image_info(*loop, file_, format));
    if (__builtin_add_overflow(size, chain.front().size, &size))
      return Error{"No disk can be as large as that."};
  }
  TRY(storage::resize_image(*loop, file_, format, size));
  return 0;
}

int DiskCommand::run() {
  const auto status = [this]() -> Result<int> {
    if (create_->parsed()) return create();
    if (info_->parsed()) return info();
    if (check_->parsed()) return check();
    if (convert_->parsed()) return convert();
    return resize();
  }();
  if (status) return status.value();
  complain(status.error());
  return ExitStatus::bad_input;
}

}  // namespace nacre::app
