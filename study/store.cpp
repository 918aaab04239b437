#include "study/store.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "core/run/interrupt.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
constexpr const char* kStageFile = "stage.json";

/// An exclusive lock on a file, for as long as it lives. The kernel lets go of it when a process is
/// killed. The file stays: removing it would let two processes lock two files of one name.
class Lock {
 public:
  Lock(const fs::path& path, const std::string& label) {
    fs::create_directories(path.parent_path());
    file_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file_ < 0) fail("{}: cannot be opened: {}", path.string(), std::strerror(errno));
    try {
      wait(path, label);
    } catch (...) {
      ::close(file_);
      throw;
    }
  }
  ~Lock() { ::close(file_); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;

 private:
  void wait(const fs::path& path, const std::string& label) const {
    for (bool said = false; ::flock(file_, LOCK_EX | LOCK_NB) < 0; said = true) {
      if (errno != EWOULDBLOCK && errno != EINTR) {
        fail("{}: cannot be locked: {}", path.string(), std::strerror(errno));
      }
      if (!said) fmt::print(stderr, "{}: another process computes it; waiting\n", label);
      check_interrupted();
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
    }
  }

  int file_;
};

/// "2026-01-31T12:00:00Z"
std::string utc_now() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

/// Temporary folders of runs of this stage that were killed. Only under its lock.
void remove_leftovers(const fs::path& root, const StageKey& key) {
  std::string begin = fmt::format(".{}.", key.name());
  for (const auto& entry : fs::directory_iterator(root)) {
    std::string name = entry.path().filename();
    if (name.starts_with(begin) && name.ends_with(".tmp")) {
      fs::remove_all(entry.path());
    }
  }
}

}  // namespace

StageKey stage_key(const std::string& kind, const nlohmann::ordered_json& settings,
                   const std::vector<std::string>& inputs, int version) {
  StageKey key{.kind = kind, .version = version, .settings = settings, .inputs = inputs};
  nlohmann::json all = {
      {"kind", kind}, {"version", version}, {"settings", key.settings}, {"inputs", inputs}};
  key.hash = hash_text(all.dump());
  return key;
}

Store::Store(fs::path root) : root_(std::move(root)) {}

bool Store::done(const StageKey& key) const { return fs::exists(folder(key) / kStageFile); }

fs::path Store::partial(const StageKey& key, const std::string& name) const {
  fs::path inside = root_ / "partial" / key.name();
  fs::create_directories(inside);
  return inside / name;
}

StoredStage Store::get(
    const StageKey& key, const std::string& label,
    const std::function<nlohmann::ordered_json(const fs::path& folder)>& make) const {
  auto stored = [&](bool reused) {
    fs::path record = folder(key) / kStageFile;
    auto json = nlohmann::ordered_json::parse(read_text(record), nullptr, false);
    if (!json.is_object() || !json.contains("cost")) {
      fail("{}: damaged; remove {} to have it computed again", record.string(),
           folder(key).string());
    }
    return StoredStage{folder(key), key.hash, json["cost"], reused};
  };
  if (done(key)) return stored(true);

  Lock lock(root_ / "locks" / key.name(), label);
  if (done(key)) return stored(true);  // finished by whom we waited for
  remove_leftovers(root_, key);

  TemporaryFolder made(folder(key));
  nlohmann::ordered_json record = {{"kind", key.kind},
                                   {"key", key.hash},
                                   {"version", key.version},
                                   {"inputs", key.inputs},
                                   {"settings", key.settings}};
  record["cost"] = make(made.path());
  record["finished"] = utc_now();
  atomic_write(made.path() / kStageFile, fmt::format("{}\n", record.dump(2)));
  made.commit();
  fs::remove_all(root_ / "partial" / key.name());
  return stored(false);
}

void Store::drop(const StageKey& key) const {
  const Lock lock(root_ / "locks" / key.name(), key.name());
  fs::remove_all(root_ / "partial" / key.name());
  if (!done(key)) return;
  // Gone at once; what a kill leaves of it has the name of leftovers.
  const fs::path dropped = root_ / fmt::format(".{}.dropped.tmp", key.name());
  fs::remove_all(dropped);
  fs::rename(folder(key), dropped);
  fs::remove_all(dropped);
}

}  // namespace resurface
