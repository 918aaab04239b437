// xxh3-128 (xxhash.com): content keys of strings, files and tensors. Not for secrets.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

namespace resurface {

/// 32 hex digits.
std::string hash_text(std::string_view text);
/// Of the bytes of a file. Throws Error when it cannot be read.
std::string hash_file(const std::filesystem::path& path);

/// The same hash over bytes that come in pieces.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(Hasher&&) noexcept;
  Hasher& operator=(Hasher&&) noexcept;
  Hasher& add(std::string_view bytes);
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace resurface
