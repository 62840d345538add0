// Qcow2: an image in the format of that name, versions 2 and 3. docs/storage.md says how it stays consistent.
// Driven from the loop's thread.
//
//   qcow2.cpp    opening, submit() and its short path      commit.cpp    memory to file, and what is freed by
//   that mapping.cpp  where a guest address is                  read.cpp      reading, compressed clusters
//   write.cpp    writing, copy-on-write                    zero.cpp      discard and write-zeroes
#pragma once

#include <list>
#include <optional>
#include <vector>

#include "storage/image.hpp"
#include "storage/qcow2/refcounts.hpp"
#include "storage/qcow2/snapshots.hpp"

namespace nacre::storage::qcow2 {

struct Options {
  Access access = Access::ReadOnly;
  // Metadata held in memory: one cache of this size for mappings, one of a quarter for counts. 8 MiB map 64
  // GiB.
  u64 cache_bytes = 8 * kMiB;
  const Snapshot* snapshot = nullptr;  // read this instead of the current state; with ReadOnly
};

class Qcow2 final : public Image, private PageCache::Cleaner {
 public:
  // `backing` is what header.backing_name means, or null. An image that was left dirty must be repaired
  // before it is opened for writing. `path` is for sentences.
  static Result<std::unique_ptr<Qcow2>> open(std::unique_ptr<BlockFile> file, const Header& header,
                                             std::unique_ptr<Image> backing, const Options& options,
                                             const std::string& path);
  ~Qcow2() override;

  bool submit(Request& request) override;
  [[nodiscard]] u64 size() const override { return size_; }
  [[nodiscard]] Format format() const override { return Format::Qcow2; }
  [[nodiscard]] u64 discard_unit() const override { return geometry_.cluster_size(); }
  Result<Extent> extent_at(u64 offset) override;
  Status close() override;
  void wait() override { file_->wait(); }

 private:
  // A request under way; in order of their beginnings.
  struct Operation final : Request {
    void completed() override;
    Qcow2* image = nullptr;
    Request* request = nullptr;
    u64 sequence = 0;
    Operation *newer = nullptr, *older = nullptr;
    enum class Stage : u8 { Submitting, Complete, UnderWay } stage = Stage::Submitting;
  };
  // Where [offset, offset + length) of the guest's disk is: all of it in one way.
  struct Run {
    enum class Kind : u8 {
      Hole,        // nothing here: the backing image's, or zeros
      Zero,        // reads as zeros, whatever the backing image has
      Data,        // in the file from `host` on
      Compressed,  // one cluster of which `entry` says where
      Damaged,     // an impossible entry
    } kind = Kind::Hole;
    bool is_exclusive = false;  // Data, and Zero with a cluster behind it: nobody else refers to it
    u64 length = 0;
    u64 host = 0;
    u64 entry = 0;  // of the first cluster
  };
  // Guest clusters whose mapping is being changed; nobody else changes it meanwhile.
  struct Claim {
    u64 first, count;
    WaitList waiting;
  };
  using Claims = std::list<Claim>;
  struct Dropped {
    u64 first, count;  // clusters of the file that lost a reference
  };
  struct Ripening {
    u64 sequence;  // operations from here on did not see the old references
    std::vector<Dropped> dropped;
  };

  Qcow2(std::unique_ptr<BlockFile> file, const Header& header, std::unique_ptr<Image> backing,
        const Options& options);

  // qcow2.cpp
  Operation* begin(Request& request);
  void retire(Operation* operation);
  Detached serve(Operation* operation);
  enum class Start : u8 { NotPossible, Complete, UnderWay };
  Start start_directly(Request& request);
  Task<int> carry_out(Request& request);
  void fail_damaged();
  Detached mark_corrupt();
  template <typename T>
  T finish(Task<T> task);

  // mapping.cpp
  [[nodiscard]] u64 l1_index(u64 offset) const { return offset >> geometry_.l1_shift(); }
  [[nodiscard]] u64 l2_entry_address(u64 offset) const;
  [[nodiscard]] bool has_backing_at(u64 offset) const { return backing_ && offset < backing_->size(); }
  [[nodiscard]] bool is_metadata(u64 host, u64 length) const;
  [[nodiscard]] Run decode(u64 entry, u64 offset) const;
  // The run at offset, if the tables for it are in memory.
  std::optional<Run> find(u64 offset, u64 length);
  Task<int> load_mapping(u64 offset);
  [[nodiscard]] bool is_table_owned(u64 offset) const { return (l1_[l1_index(offset)] & kCopied) != 0; }
  Task<int> own_table(u64 offset);
  void set_l1(u64 index, u64 entry);
  // The entry's place in its page; the page is in memory.
  u8* entry_in_memory(u64 offset);
  // Changes the entry of one guest cluster; its page is in memory. What it pointed to loses a reference.
  void set_entry(u64 offset, u64 entry, bool drops = true);
  Claim* claim_on(u64 first, u64 count);
  void give_up(Claims::iterator claim);
  void drop(u64 entry);

  // read.cpp
  Task<int> read(u64 offset, u64 length, std::vector<iovec> buffers);
  Task<int> read_run(Run run, u64 offset, std::vector<iovec> buffers);
  Task<int> read_compressed(u64 entry, u64 in_cluster, std::vector<iovec> buffers);

  // write.cpp
  Task<int> write(u64 offset, u64 length, std::vector<iovec> buffers);
  Task<int> write_in_place(u64 host, u64 length, std::vector<iovec> buffers);
  u64 clusters_to_allocate(u64 offset, u64 length);
  Task<int> write_claimed(u64 offset, u64* length, u64 clusters, std::vector<iovec> buffers);

  // zero.cpp
  Task<int> zero(u64 offset, u64 length, Request::Kind kind, Request::Space space);
  Task<int> write_zeros(u64 offset, u64 length);
  Task<int> zero_clusters(u64 offset, u64 length, Request::Kind kind, Request::Space space);

  // commit.cpp
  Task<int> flush();
  Task<int> commit();
  Task<int> commit_once();
  Task<int> clean() override { return commit(); }
  void commit_if_crowded();
  Detached commit_in_background();
  std::vector<Piece> capture_l1();
  void ripen();
  Detached free_ripe();
  Task<int> finish_everything();

  std::unique_ptr<BlockFile> file_;
  std::unique_ptr<Image> backing_;
  Geometry geometry_;
  u64 size_;
  u32 version_;
  Compression compression_;
  u64 incompatible_;
  u64 l1_offset_;
  std::vector<u64> l1_;
  std::vector<u64> dirty_l1_sectors_;
  PageCache l2_pages_, count_pages_;
  std::optional<Refcounts> counts_;  // of an image that is written to
  AsyncMutex tables_;                // held while an L2 table is made or copied
  Claims claims_;
  int broken_ = 0;  // the errno of all further changes

  Operation *newest_ = nullptr, *oldest_ = nullptr;
  u64 sequence_ = 0;
  u32 background_ = 0;  // coroutines that no request waits for
  std::vector<Operation*> spare_;

  std::vector<Dropped> dropped_;  // since the last commit began
  u64 dropped_clusters_ = 0;
  std::list<Ripening> ripening_;
  bool freeing_ = false;
  bool committing_ = false;
  u64 commits_started_ = 0, commits_ended_ = 0;
  int commit_error_ = 0;
  WaitList commit_ended_;

  struct Unpacked {
    u64 entry = 0;
    PageBuffer bytes;
  };
  std::vector<Unpacked> unpacked_;  // a few clusters that were read last
  usize next_unpacked_ = 0;
};

}  // namespace nacre::storage::qcow2
