// The allocator's settings. A training step frees and takes the same large blocks again and again;
// glibc gives blocks of more than 32 MB back to the kernel each time, which must clear every page
// again: a tenth to a quarter of a step on a CPU. Here they come from the heap, which is kept, and
// in which neighbouring free blocks join (allocators that keep blocks apart by size grow without
// end, since no two steps have the same number of tokens).
#include <malloc.h>

namespace {

struct KeepTheHeap {
  KeepTheHeap() {
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, 64 << 20);
  }
};

const KeepTheHeap keep_the_heap;

}  // namespace
