#include "app/disk_report.hpp"

#include <cinttypes>
#include <cstdio>

namespace nacre::app {
namespace {

using storage::ImageInfo;

void print_image(const ImageInfo& info) {
  std::printf("image            %s\n", info.path.c_str());
  std::printf("format           %s", name_of(info.format));
  const storage::qcow2::Header& header = info.header;
  const bool qcow2 = info.format == storage::Format::Qcow2;
  if (qcow2) {
    std::printf(" version %u, clusters of %s, refcounts of %u bits", header.version,
                size_text(header.geometry.cluster_size()).c_str(), 1u << header.geometry.refcount_order);
    if (header.compression == storage::qcow2::Compression::Zstd) std::printf(", zstd");
  }
  std::printf("\ndisk             %s (%" PRIu64 " bytes)\n", size_text(info.size).c_str(), info.size);
  std::printf("on the host      %s\n", size_text(info.allocated).c_str());
  if (!header.backing_name.empty()) {
    std::printf("backing file     %s (%s)\n", header.backing_name.c_str(),
                header.backing_format.empty() ? "format not said" : header.backing_format.c_str());
  }
  if (qcow2 && header.is_dirty())
    std::printf("state            was not closed; opening it for writing mends that\n");
  if (qcow2 && header.is_corrupt()) std::printf("state            marked corrupt; see nacre disk check\n");
  for (const storage::qcow2::Snapshot& snapshot : info.snapshots) {
    std::printf("snapshot         %s: %s, disk %s, memory %s\n", snapshot.id.c_str(), snapshot.name.c_str(),
                size_text(snapshot.disk_size).c_str(), size_text(snapshot.vm_state_size).c_str());
  }
}

const char* truth(bool value) {
  return value ? "true" : "false";
}

void print_image_json(const ImageInfo& info) {
  std::printf("{\"path\": %s, \"format\": \"%s\", \"size\": %" PRIu64 ", \"allocated\": %" PRIu64,
              json_text(info.path).c_str(), name_of(info.format), info.size, info.allocated);
  if (info.format == storage::Format::Qcow2) {
    const storage::qcow2::Header& header = info.header;
    std::printf(", \"version\": %u, \"cluster_size\": %" PRIu64
                ", \"refcount_bits\": %u, \"compression\": \"%s\""
                ", \"lazy_refcounts\": %s, \"dirty\": %s, \"corrupt\": %s",
                header.version, header.geometry.cluster_size(), 1u << header.geometry.refcount_order,
                header.compression == storage::qcow2::Compression::Zstd ? "zstd" : "zlib",
                truth((header.compatible & storage::qcow2::Compatible::lazy_refcounts) != 0),
                truth(header.is_dirty()), truth(header.is_corrupt()));
    if (!header.backing_name.empty()) {
      std::printf(", \"backing\": %s, \"backing_format\": %s", json_text(header.backing_name).c_str(),
                  header.backing_format.empty() ? "null" : json_text(header.backing_format).c_str());
    }
    std::printf(", \"snapshots\": [");
    const char* between = "";
    for (const storage::qcow2::Snapshot& snapshot : info.snapshots) {
      std::printf("%s{\"id\": %s, \"name\": %s, \"size\": %" PRIu64 ", \"vm_state_size\": %" PRIu64
                  ", \"seconds\": %u}",
                  between, json_text(snapshot.id).c_str(), json_text(snapshot.name).c_str(),
                  snapshot.disk_size, snapshot.vm_state_size, snapshot.seconds);
      between = ", ";
    }
    std::printf("]");
  }
  std::printf("}");
}

}  // namespace

std::string size_text(u64 bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  unsigned unit = 0;
  auto value = static_cast<double>(bytes);
  for (; value >= 1024 && unit + 1 < std::size(kUnits); ++unit) value /= 1024;
  char text[32];
  std::snprintf(text, sizeof text,
                value == static_cast<double>(static_cast<u64>(value)) ? "%.0f %s" : "%.1f %s", value,
                kUnits[unit]);
  return text;
}

std::string json_text(const std::string& text) {
  std::string result = "\"";
  const auto* at = reinterpret_cast<const u8*>(text.data());
  const u8* end = at + text.size();
  while (at < end) {
    const u8 byte = *at;
    // Well-formed sequences of two to four bytes stay; RFC 3629.
    const unsigned length = byte < 0x80                   ? 1
                            : byte >= 0xc2 && byte < 0xe0 ? 2
                            : byte >= 0xe0 && byte < 0xf0 ? 3
                            : byte >= 0xf0 && byte < 0xf5 ? 4
                                                          : 0;
    bool well_formed = length > 1 && end - at >= static_cast<i64>(length);
    for (unsigned i = 1; well_formed && i < length; ++i) well_formed = (at[i] & 0xc0) == 0x80;
    if (well_formed) {
      result.append(reinterpret_cast<const char*>(at), length);
      at += length;
      continue;
    }
    if (byte == '"' || byte == '\\') result += '\\';
    if (byte < 0x20 || byte >= 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", byte);
      result += escape;
    } else {
      result += static_cast<char>(byte);
    }
    ++at;
  }
  return result + "\"";
}

void print_info(const std::vector<ImageInfo>& chain) {
  for (usize i = 0; i < chain.size(); ++i) {
    if (i > 0) std::printf("\n");
    print_image(chain[i]);
  }
}

void print_info_json(const std::vector<ImageInfo>& chain) {
  std::printf("[");
  for (usize i = 0; i < chain.size(); ++i) {
    if (i > 0) std::printf(",\n ");
    print_image_json(chain[i]);
  }
  std::printf("]\n");
}

void print_check(const storage::qcow2::CheckReport& report) {
  for (const std::string& finding : report.findings) std::printf("%s\n", finding.c_str());
  const u64 findings = report.corruptions + report.leaks;
  if (findings > report.findings.size())
    std::printf("… and %" PRIu64 " more\n", findings - report.findings.size());
  if (report.corruptions + report.leaks == 0) {
    std::printf("The image is sound.\n");
  } else {
    std::printf("%" PRIu64 " errors (%" PRIu64 " repaired), %" PRIu64 " clusters leaked (%" PRIu64
                " repaired).\n",
                report.corruptions, report.corruptions_repaired, report.leaks, report.leaks_repaired);
  }
  if (report.is_dirty) std::printf("It was not closed: its counts may be old. --repair mends them.\n");
  if (report.is_marked_corrupt) std::printf("It is marked corrupt, and is not written to.\n");
  if (report.total_clusters == 0) return;
  std::printf("%" PRIu64 " of %" PRIu64 " clusters are in use, %" PRIu64 " compressed, %" PRIu64
              " fragments.\n",
              report.allocated_clusters, report.total_clusters, report.compressed_clusters, report.fragments);
}

void print_check_json(const storage::qcow2::CheckReport& report) {
  std::printf("{\"corruptions\": %" PRIu64 ", \"corruptions_repaired\": %" PRIu64 ", \"leaks\": %" PRIu64
              ", \"leaks_repaired\": %" PRIu64
              ", \"dirty\": %s, \"corrupt\": %s, \"total_clusters\": %" PRIu64
              ", \"allocated_clusters\": %" PRIu64 ", \"compressed_clusters\": %" PRIu64
              ", \"fragments\": %" PRIu64 ", \"findings\": [",
              report.corruptions, report.corruptions_repaired, report.leaks, report.leaks_repaired,
              truth(report.is_dirty), truth(report.is_marked_corrupt), report.total_clusters,
              report.allocated_clusters, report.compressed_clusters, report.fragments);
  for (usize i = 0; i < report.findings.size(); ++i)
    std::printf("%s%s", i > 0 ? ", " : "", json_text(report.findings[i]).c_str());
  std::printf("]}\n");
}

}  // namespace nacre::app
