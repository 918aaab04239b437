#include "core/run/hash.h"

#include <xxhash.h>

#include <fstream>

#include "core/run/error.h"

namespace resurface {
namespace {

std::string hex_digits(XXH128_hash_t hash) {
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace

struct Hasher::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> xxh{XXH3_createState(), &XXH3_freeState};
};

Hasher::Hasher() : state_(std::make_unique<State>()) { XXH3_128bits_reset(state_->xxh.get()); }
Hasher::~Hasher() = default;
Hasher::Hasher(Hasher&&) noexcept = default;
Hasher& Hasher::operator=(Hasher&&) noexcept = default;

Hasher& Hasher::add(std::string_view bytes) {
  XXH3_128bits_update(state_->xxh.get(), bytes.data(), bytes.size());
  return *this;
}

std::string Hasher::hex() const { return hex_digits(XXH3_128bits_digest(state_->xxh.get())); }

std::string hash_text(std::string_view text) {
  return hex_digits(XXH3_128bits(text.data(), text.size()));
}

std::string hash_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail("{}: cannot be opened for reading", path.string());
  Hasher hasher;
  std::vector<char> buffer(1 << 20);
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0) {
    hasher.add({buffer.data(), static_cast<size_t>(file.gcount())});
  }
  if (file.bad()) fail("{}: failed while reading", path.string());
  return hasher.hex();
}

}  // namespace resurface
