#include "core/text/vocabulary.h"

namespace resurface {

Vocabulary::Vocabulary(const JsonNode& node) {
  const auto& object = node.object();
  count_ = object.size();
  if (count_ == 0) node.wrong("at least one token");
  const auto most = 2 * count_ + (1 << 16);
  std::vector<bool> taken;
  for (const auto& [token, value] : object.items()) {
    const auto id = JsonNode{value, node.file, node.path + "['" + token + "']"}.id();
    if (id >= most) {
      fail("{}: token '{}' has id {}, though there are {} tokens", node.where(), token, id, count_);
    }
    if (id >= tokens_.size()) {
      tokens_.resize(id + size_t{1});
      taken.resize(tokens_.size());
    }
    if (taken[id]) {
      fail("{}: '{}' and '{}' both have id {}", node.where(), tokens_[id], token, id);
    }
    taken[id] = true;
    tokens_[id] = token;
  }
  ids_.reserve(count_);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    if (taken[id]) ids_.emplace(tokens_[id], static_cast<uint32_t>(id));
  }
}

Vocabulary::Vocabulary(std::vector<std::string> tokens)
    : tokens_(std::move(tokens)), count_(tokens_.size()) {
  ids_.reserve(count_);
  for (size_t id = 0; id < tokens_.size(); ++id) {
    ids_[tokens_[id]] = static_cast<uint32_t>(id);
  }
}

}  // namespace resurface
