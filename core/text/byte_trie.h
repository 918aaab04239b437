// The strings of a set that a text begins with.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace resurface {

class ByteTrie {
 public:
  static constexpr uint32_t none = ~uint32_t{0};

  ByteTrie() = default;
  /// Strings with their values (not `none`); of equal strings the first counts. Empty strings are
  /// never found.
  explicit ByteTrie(std::vector<std::pair<std::string_view, uint32_t>> entries);

  /// Calls found(length, value) for every string of the set that `text` begins with, shortest
  /// first.
  template <class Found>
  void prefixes(std::string_view text, const Found& found) const {
    if (text.empty() || nodes_.empty()) return;
    auto node = roots_[static_cast<unsigned char>(text[0])];
    for (size_t i = 1; node != none; ++i) {
      if (nodes_[node].value != none) found(i, nodes_[node].value);
      if (i == text.size()) return;
      node = child(nodes_[node], static_cast<unsigned char>(text[i]));
    }
  }

 private:
  struct Node {
    uint32_t first = 0, value = none;  ///< first child
    uint16_t count = 0;                ///< of children, next to each other, by label
    unsigned char label = 0;
  };
  uint32_t child(const Node& node, unsigned char label) const {
    auto low = node.first, high = node.first + node.count;
    while (low < high) {
      const auto middle = low + (high - low) / 2;
      if (nodes_[middle].label < label) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < node.first + node.count && nodes_[low].label == label ? low : none;
  }

  std::vector<Node> nodes_;
  std::array<uint32_t, 256> roots_{};
};

}  // namespace resurface
