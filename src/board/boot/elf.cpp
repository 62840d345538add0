#include "board/boot/elf.hpp"

#include "base/copy.hpp"

namespace nacre::board::boot {
namespace {

constexpr u8 kClass32 = 1, kClass64 = 2, kLittleEndian = 1;
constexpr u16 kExecutable = 2, kSharedObject = 3, kMachine386 = 3, kMachineX86_64 = 62;
constexpr unsigned kMaxSegments = 128;

struct Identification {
  u8 magic[4], file_class, data, version, padding[9];
  u16 type, machine;
};
static_assert(sizeof(Identification) == 20);

struct Header32 {
  Identification id;
  u32 version, entry, phoff, shoff, flags;
  u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
static_assert(sizeof(Header32) == 52);

struct Header64 {
  Identification id;
  u32 version;
  u64 entry, phoff, shoff;
  u32 flags;
  u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};
static_assert(sizeof(Header64) == 64);

struct Segment32 {
  u32 type, offset, vaddr, paddr, filesz, memsz, flags, align;
};
struct Segment64 {
  u32 type, flags;
  u64 offset, vaddr, paddr, filesz, memsz, align;
};
static_assert(sizeof(Segment32) == 32 && sizeof(Segment64) == 56);

struct NoteHeader {
  u32 name_size, descriptor_size, type;
};
constexpr u32 kPhys32Entry = 18;

constexpr u64 align_to_4(u64 value) {
  return (value + 3) & ~u64{3};
}

const char* kDamaged = "; the file is damaged or was cut short: fetch or build it again";

void fill_ram(const Machine& machine, u64 base, u64 bytes) {
  if (machine.ram_is_zero) return;
  while (bytes != 0) {  // claimed as RAM before; one region may end and the next begin inside
    u8* host = machine.memory.host(GuestPhysical(base), true);
    NACRE_CHECK(host != nullptr);
    const u64 part = bytes < kPageSize - base % kPageSize ? bytes : kPageSize - base % kPageSize;
    fill_bytes(host, 0, part);
    base += part;
    bytes -= part;
  }
}

bool all_zero(Bytes bytes) {
  u64 word = 0;
  u64 at = 0;
  for (; read_at(bytes, at, word); at += sizeof word) {
    if (word != 0) return false;
  }
  for (; at < bytes.size(); ++at) {
    if (bytes[at] != 0) return false;
  }
  return true;
}

// Page by page of the guest's memory when zeros are to be left out.
void copy_to_ram(const Machine& machine, u64 base, Bytes bytes) {
  while (!bytes.empty()) {
    const u64 page = kPageSize - base % kPageSize;
    const u64 part = machine.ram_is_zero && page < bytes.size() ? page : bytes.size();
    if (!machine.ram_is_zero || !all_zero(bytes.first(part))) {
      NACRE_CHECK(machine.memory.write(GuestPhysical(base), bytes.data(), part));
    }
    base += part;
    bytes = bytes.subspan(part);
  }
}

}  // namespace

bool Elf::is_elf(Bytes file) {
  return file.size() >= 4 && file[0] == 0x7f && file[1] == 'E' && file[2] == 'L' && file[3] == 'F';
}

Result<Elf> Elf::parse(Bytes file) {
  Identification id{};
  if (!is_elf(file) || !read_at(file, 0, id)) return Error("not an ELF file").append(kDamaged);
  const bool is_64 = id.file_class == kClass64;
  if ((!is_64 && id.file_class != kClass32) || id.data != kLittleEndian ||
      id.machine != (is_64 ? kMachineX86_64 : kMachine386)) {
    return Error("this ELF file is not for x86; build the kernel for i386 or x86-64");
  }
  if (id.type != kExecutable && id.type != kSharedObject) {
    return Error("this ELF file is not an executable (a relocatable object or a core dump?); link it first");
  }
  Elf elf;
  elf.file_ = file;
  elf.is_64_ = is_64;
  bool whole = false;
  if (is_64) {
    Header64 header{};
    whole = read_at(file, 0, header);
    elf.entry_ = header.entry;
    elf.table_offset_ = header.phoff;
    elf.entry_size_ = header.phentsize;
    elf.segment_count_ = header.phnum;
    elf.sections_end_ = header.shoff + u64{header.shnum} * header.shentsize;
  } else {
    Header32 header{};
    whole = read_at(file, 0, header);
    elf.entry_ = header.entry;
    elf.table_offset_ = header.phoff;
    elf.entry_size_ = header.phentsize;
    elf.segment_count_ = header.phnum;
    elf.sections_end_ = header.shoff + u64{header.shnum} * header.shentsize;
  }
  const u64 table_bytes = u64{elf.segment_count_} * elf.entry_size_;
  if (!whole || elf.table_offset_ > file.size() || table_bytes > file.size() - elf.table_offset_) {
    return Error("the ELF program headers lie past the end of the file").append(kDamaged);
  }
  if (elf.segment_count_ == 0)
    return Error("this ELF file has no program headers, so nothing to load; link it first");
  if (elf.entry_size_ < (is_64 ? sizeof(Segment64) : sizeof(Segment32)) ||
      elf.segment_count_ > kMaxSegments) {
    return Error("the ELF program headers are of no known size or more than ")
        .append_number(kMaxSegments)
        .append(kDamaged);
  }
  return elf;
}

ElfSegment Elf::segment(unsigned i) const {
  const u64 at = table_offset_ + u64{i} * entry_size_;
  if (is_64_) {
    Segment64 s{};
    NACRE_CHECK(i < segment_count_ && read_at(file_, at, s));
    return {s.type, s.offset, s.paddr, s.vaddr, s.filesz, s.memsz};
  }
  Segment32 s{};
  NACRE_CHECK(i < segment_count_ && read_at(file_, at, s));
  return {s.type, s.offset, s.paddr, s.vaddr, s.filesz, s.memsz};
}

Status Elf::load(const Machine& machine, Placer& placer, u64 displacement) const {
  bool any = false;
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type != ElfSegment::load || s.memory_size == 0) continue;
    if (s.offset > file_.size() || s.file_size > file_.size() - s.offset) {
      return Error("ELF segment ").append_number(i).append(" lies past the end of the file").append(kDamaged);
    }
    if (s.file_size > s.memory_size) {
      return Error("ELF segment ")
          .append_number(i)
          .append(" is larger in the file than in memory")
          .append(kDamaged);
    }
    if (s.physical + s.memory_size < s.physical) {
      return Error("ELF segment ")
          .append_number(i)
          .append(" runs past the end of the address space")
          .append(kDamaged);
    }
    const u64 base = s.physical + displacement;
    TRY(placer.claim(base, s.memory_size, "an ELF segment"));
    copy_to_ram(machine, base, file_.subspan(s.offset, s.file_size));
    fill_ram(machine, base + s.file_size, s.memory_size - s.file_size);
    any = true;
  }
  if (!any) return Error("this ELF file has no segment to load; link it as an executable");
  return {};
}

u64 Elf::load_end() const {
  u64 end = 0;
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type == ElfSegment::load && s.physical + s.memory_size > end) end = s.physical + s.memory_size;
  }
  return end;
}

u64 Elf::load_start() const {
  u64 start = ~u64{0};
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type == ElfSegment::load && s.memory_size != 0 && s.physical < start) start = s.physical;
  }
  return start == ~u64{0} ? 0 : start;
}

u64 Elf::file_end() const {
  u64 end = sections_end_;
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type == ElfSegment::load && s.offset + s.file_size > end) end = s.offset + s.file_size;
  }
  return end;
}

bool Elf::loads(u64 entry) const {
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type == ElfSegment::load && entry >= s.physical && entry - s.physical < s.memory_size) return true;
  }
  return false;
}

u64 Elf::pvh_entry() const {
  for (unsigned i = 0; i < segment_count_; ++i) {
    const ElfSegment s = segment(i);
    if (s.type != ElfSegment::note || s.offset > file_.size() || s.file_size > file_.size() - s.offset)
      continue;
    if (const u64 entry = pvh_entry_in(file_.subspan(s.offset, s.file_size)); entry != 0) return entry;
  }
  return 0;
}

u64 Elf::pvh_entry_in(Bytes notes) const {
  u64 at = 0;
  NoteHeader note{};
  while (read_at(notes, at, note)) {
    const u64 name = at + sizeof note;
    const u64 descriptor = name + align_to_4(note.name_size);
    u32 name_bytes = 0;  // "Xen\0"
    const bool is_xen = note.name_size == 4 && read_at(notes, name, name_bytes) && name_bytes == 0x006e6558;
    u32 entry = 0;
    if (is_xen && note.type == kPhys32Entry && note.descriptor_size >= 4 && read_at(notes, descriptor, entry))
      return entry;
    at = descriptor + align_to_4(note.descriptor_size);
  }
  return 0;
}

}  // namespace nacre::board::boot
