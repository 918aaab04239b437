// jemalloc's settings, read by it at start-up. A training step frees and takes the same large
// blocks again and again; keeping them for half a minute instead of giving them back to the kernel
// saves a tenth to a quarter of a step on a CPU.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf = "oversize_threshold:0,dirty_decay_ms:30000,muzzy_decay_ms:30000";
}
