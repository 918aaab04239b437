#include "core/text/byte_trie.h"

#include <algorithm>

namespace resurface {

ByteTrie::ByteTrie(std::vector<std::pair<std::string_view, uint32_t>> entries) {
  roots_.fill(none);
  std::erase_if(entries, [](const auto& entry) { return entry.first.empty(); });
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  /// Entries [begin, end) share their first `depth` bytes, which lead to `node`.
  struct Group {
    size_t begin, end, depth;
    uint32_t node;
  };
  std::vector<Group> groups;
  // Adds the children of a group, told apart by the byte after the shared ones.
  const auto expand = [&](size_t begin, size_t end, size_t depth) {
    uint16_t count = 0;
    while (begin < end) {
      const auto label = static_cast<unsigned char>(entries[begin].first[depth]);
      auto next = begin;
      while (next < end && static_cast<unsigned char>(entries[next].first[depth]) == label) ++next;
      groups.push_back({begin, next, depth + 1, static_cast<uint32_t>(nodes_.size())});
      nodes_.push_back({0, none, 0, label});
      ++count;
      begin = next;
    }
    return count;
  };
  expand(0, entries.size(), 0);
  for (size_t i = 0; i < nodes_.size(); ++i) roots_[nodes_[i].label] = static_cast<uint32_t>(i);
  for (size_t at = 0; at < groups.size(); ++at) {
    auto [begin, end, depth, node] = groups[at];
    if (entries[begin].first.size() == depth) nodes_[node].value = entries[begin].second;
    while (begin < end && entries[begin].first.size() == depth) ++begin;
    nodes_[node].first = static_cast<uint32_t>(nodes_.size());
    nodes_[node].count = expand(begin, end, depth);
  }
}

}  // namespace resurface
