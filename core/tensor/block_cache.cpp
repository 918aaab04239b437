#include "core/tensor/block_cache.h"

#include <c10/core/Allocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

namespace resurface {
namespace {

constexpr size_t kLarge = size_t{1} << 20;  ///< smaller tensors stay with malloc

class BlockCache final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t size) override {
    void* data = size < kLarge ? c10::alloc_cpu(size) : take(size);
    return {data, data, &BlockCache::release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &BlockCache::release; }
  void copy_data(void* to, const void* from, size_t count) const override {
    default_copy_data(to, from, count);
  }

  /// LibTorch asks for one allocator for the whole process, whose deleter is a bare function.
  static BlockCache& instance() {
    // Never destroyed: tensors may outlive main.
    static BlockCache& cache = *std::make_unique<BlockCache>().release();
    return cache;
  }

 private:
  void* take(size_t size) {
    size = (size + kLarge - 1) / kLarge * kLarge;
    const std::lock_guard lock(mutex_);
    // The smallest free block that holds it, if that is not wasteful.
    auto found = free_.lower_bound(size);
    if (found == free_.end() || found->first > 2 * size) {
      const size_t most = std::max(peak_, live_ + size) / 4 * 5;
      while (!free_.empty() && mapped_ + size > most) unmap(std::prev(free_.end()));
      void* data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      TORCH_CHECK_WITH(OutOfMemoryError, data != MAP_FAILED, "not enough memory for a tensor of ",
                       size, " bytes; tensors hold ", live_, " bytes");
      mapped_ += size;
      sizes_.emplace(data, size);
      found = free_.emplace(size, data);
    }
    const auto [block, data] = *found;
    free_.erase(found);
    live_ += block;
    peak_ = std::max(peak_, live_);
    return data;
  }

  void unmap(std::multimap<size_t, void*>::iterator block) {
    munmap(block->second, block->first);
    mapped_ -= block->first;
    sizes_.erase(block->second);
    free_.erase(block);
  }

  static void release(void* data) {
    if (!instance().give_back(data)) c10::free_cpu(data);
  }

  bool give_back(void* data) {
    const std::lock_guard lock(mutex_);
    const auto block = sizes_.find(data);
    if (block == sizes_.end()) return false;
    live_ -= block->second;
    free_.emplace(block->second, data);
    return true;
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;        // by size
  std::unordered_map<void*, size_t> sizes_;  // every block, free or not
  size_t live_ = 0, peak_ = 0, mapped_ = 0;  // bytes
};

}  // namespace

void keep_tensor_memory() {
  c10::SetAllocator(c10::DeviceType::CPU, &BlockCache::instance(), /*priority=*/1);
}

}  // namespace resurface
