// Tokens and their ids.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/text/json_node.h"

namespace resurface {

class Vocabulary {
 public:
  Vocabulary() = default;
  /// `vocab` of tokenizer.json: {token: id}. Throws Error for an id that two tokens have, and for
  /// ids with gaps so wide that a lying file could ask for gigabytes.
  explicit Vocabulary(const JsonNode& node);
  /// tokens[id]; of equal tokens the last has the id.
  explicit Vocabulary(std::vector<std::string> tokens);

  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  /// -1 when there is no such token.
  int64_t find(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? -1 : int64_t{found->second};
  }

  /// By id; empty where there is no such id.
  const std::vector<std::string>& tokens() const { return tokens_; }
  /// How many tokens there are: added ones follow.
  size_t count() const { return count_; }

 private:
  std::vector<std::string> tokens_;
  std::unordered_map<std::string_view, uint32_t> ids_;  ///< views into tokens_
  size_t count_ = 0;
};

}  // namespace resurface
