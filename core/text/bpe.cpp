#include "core/text/bpe.h"

#include <bit>

#include "core/text/utf8.h"

namespace resurface {
namespace {

uint64_t pair_of(uint32_t left, uint32_t right) { return uint64_t{left} << 32 | right; }

size_t hash_of(uint64_t pair) {
  pair *= 0x9E3779B97F4A7C15;
  return pair ^ (pair >> 32);
}

/// Two tokens of a merge, written "a b" or ["a", "b"].
std::pair<std::string, std::string> read_merge(const JsonNode& node) {
  if (node.json.is_array()) {
    if (node.json.size() != 2) node.wrong("two tokens");
    return {node.at(size_t{0}).string(), node.at(size_t{1}).string()};
  }
  const auto& text = node.string();
  const auto space = text.find(' ');
  if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos) {
    node.wrong("two tokens with one space between");
  }
  return {text.substr(0, space), text.substr(space + 1)};
}

std::string text_of(const JsonNode& node, const std::string& key) {
  return node.has(key) ? node.at(key).string() : "";
}

}  // namespace

Bpe::Bpe(const JsonNode& model, bool bytes)
    : vocabulary_(model.at("vocab")),
      prefix_(text_of(model, "continuing_subword_prefix")),
      suffix_(text_of(model, "end_of_word_suffix")),
      bytes_(bytes),
      byte_fallback_(model.flag("byte_fallback", false)),
      fuse_unknown_(model.flag("fuse_unk", false)),
      ignore_merges_(model.flag("ignore_merges", false)) {
  if (model.has("dropout") && model.at("dropout").json != 0) model.unsupported("dropout");
  read_merges(model.at("merges"));
  read_bytes();
  unknown_name_ = text_of(model, "unk_token");
  if (!unknown_name_.empty()) unknown_ = vocabulary_.find(unknown_name_);
  if (bytes) find_whole_words();
}

Bpe::Bpe(std::vector<std::string> tokens)
    : vocabulary_(std::move(tokens)), bytes_(true), ignore_merges_(true) {
  read_bytes();
  for (size_t byte = 0; byte < 256; ++byte) {
    if (byte_ids_[byte] < 0) fail("byte {} has no token", byte);
  }
  find_whole_words();
  std::vector<Merge> merges;
  for (const auto& [text, id] : whole_) {
    for (size_t k = 1; k < text.size(); ++k) {
      const auto left = whole_.find(std::string_view(text).substr(0, k));
      const auto right = whole_.find(std::string_view(text).substr(k));
      if (left == whole_.end() || right == whole_.end()) continue;
      merges.push_back({pair_of(left->second, right->second), id, id});
    }
  }
  merges_.resize(std::bit_ceil(2 * merges.size() + 1));
  for (const auto& merge : merges) slot(merge.pair) = merge;
}

void Bpe::read_merges(const JsonNode& node) {
  const auto& list = node.array();
  merges_.resize(std::bit_ceil(2 * list.size() + 1));
  uint32_t rank = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto entry = node.at(i);
    if (list[i].is_string() && entry.string().starts_with("#version")) continue;
    const auto [left, right] = read_merge(entry);
    const auto id = [&](std::string_view token) {
      const auto found = vocabulary_.find(token);
      if (found < 0) {
        fail("{}: merge '{} {}' names '{}', which is not in the vocabulary", entry.where(), left,
             right, token);
      }
      return static_cast<uint32_t>(found);
    };
    const auto pair = pair_of(id(left), id(right));
    if (right.size() < prefix_.size()) entry.wrong(fmt::format("a second token with {}", prefix_));
    slot(pair) = {pair, rank++, id(left + right.substr(prefix_.size()))};
  }
}

void Bpe::read_bytes() {
  const auto alphabet = byte_alphabet();
  for (size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary_.find(bytes_ ? alphabet[byte] : fmt::format("<0x{:02X}>", byte));
  }
}

void Bpe::find_whole_words() {
  Scratch scratch;
  const auto& tokens = vocabulary_.tokens();
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    const auto bytes = bytes_of_alphabet(tokens[id]);
    if (!bytes || bytes->empty()) continue;
    bool whole = ignore_merges_;
    const auto known = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)] >= 0; };
    if (!whole && std::all_of(bytes->begin(), bytes->end(), known)) {
      start_from_bytes(*bytes, scratch);
      merge(scratch);
      whole = scratch.pieces.size() == 1 && scratch.pieces[0].id == id;
    }
    if (whole) whole_.emplace(*bytes, id);
  }
}

Bpe::Merge& Bpe::slot(uint64_t pair) {
  const auto mask = merges_.size() - 1;
  auto at = hash_of(pair) & mask;
  while (merges_[at].pair != pair && merges_[at].pair != ~uint64_t{0}) at = (at + 1) & mask;
  return merges_[at];
}

const Bpe::Merge* Bpe::find_merge(uint32_t left, uint32_t right) const {
  const auto& found = const_cast<Bpe*>(this)->slot(pair_of(left, right));
  return found.pair == ~uint64_t{0} ? nullptr : &found;
}

std::optional<uint32_t> Bpe::whole_word(std::string_view word) const {
  if (bytes_) {
    const auto found = whole_.find(word);
    return found == whole_.end() ? std::nullopt : std::optional(found->second);
  }
  const auto id = ignore_merges_ ? vocabulary_.find(word) : -1;
  return id < 0 ? std::nullopt : std::optional(static_cast<uint32_t>(id));
}

void Bpe::encode(std::string_view word, Scratch& scratch) const {
  if (const auto id = whole_word(word)) {
    scratch.pieces.assign(1, {*id, 0, static_cast<uint32_t>(word.size())});
    return;
  }
  if (bytes_) {
    start_from_bytes(word, scratch);
  } else {
    start_from_characters(word, scratch);
  }
  merge(scratch);
}

void Bpe::check_may_drop() const {
  if (unknown_name_.empty()) return;
  fail("a character has no token, and the unknown token '{}' is not in the vocabulary",
       unknown_name_);
}

void Bpe::start_from_bytes(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  bool after_unknown = false;
  for (uint32_t i = 0; i < word.size(); ++i) {
    const auto id = byte_ids_[static_cast<unsigned char>(word[i])];
    const bool is_unknown = id < 0;
    if (is_unknown && unknown_ < 0) {
      check_may_drop();
      continue;
    }
    if (is_unknown && after_unknown && fuse_unknown_) {
      symbols.back().end = i + 1;
      continue;
    }
    after_unknown = is_unknown;
    symbols.push_back({static_cast<uint32_t>(is_unknown ? unknown_ : id), i, i + 1, 0, 0});
  }
}

void Bpe::start_from_characters(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  const auto size = static_cast<uint32_t>(word.size());
  uint32_t position = 0, waiting = 0;  // `waiting`: bytes of unknown text that more may join
  const auto add = [&](int64_t id, uint32_t bytes) {
    const auto end = std::min(position + bytes, size);
    symbols.push_back({static_cast<uint32_t>(id), position, end, 0, 0});
    position = end;
  };
  const auto flush = [&] {
    if (waiting > 0) add(unknown_, waiting);
    waiting = 0;
  };
  std::string longer;
  for (size_t next = 0; next < word.size();) {
    const auto begin = next;
    next_code_point(word, next);
    const auto bytes = static_cast<uint32_t>(next - begin);
    auto character = word.substr(begin, bytes);
    const bool first = begin == 0, last = next == word.size();
    if ((!first && !prefix_.empty()) || (last && !suffix_.empty())) {
      longer.assign(first ? "" : prefix_).append(character).append(last ? suffix_ : "");
      character = longer;
    }
    if (const auto id = vocabulary_.find(character); id >= 0) {
      flush();
      add(id, bytes);
      continue;
    }
    const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (byte_fallback_ &&
        std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
      // Unknown text that waits comes after: as `tokenizers` does.
      for (const char c : character) add(byte_id(c), 1);
    } else if (unknown_ < 0) {
      check_may_drop();
      position += bytes;
    } else {
      if (!fuse_unknown_) flush();
      waiting += bytes;
    }
  }
  flush();
}

namespace {

/// The earliest learned merge first, the leftmost among equals.
bool later(const Scratch::Candidate& a, const Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
}

}  // namespace

void Bpe::push(Scratch& scratch, int32_t at) const {
  const auto next = scratch.symbols[at].next;
  if (next < 0) return;
  const auto* found = find_merge(scratch.symbols[at].id, scratch.symbols[next].id);
  if (found == nullptr) return;
  scratch.heap.push_back({found->rank, at, found->id});
  std::push_heap(scratch.heap.begin(), scratch.heap.end(), later);
}

void Bpe::merge(Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  auto& pieces = scratch.pieces;
  heap.clear();
  pieces.clear();
  const auto count = static_cast<int32_t>(symbols.size());
  if (count == 0) return;
  for (int32_t at = 0; at < count; ++at) {
    symbols[at].previous = at - 1;
    symbols[at].next = at + 1 < count ? at + 1 : -1;
  }
  constexpr uint32_t gone = ~uint32_t{0};  // the id of a symbol that was merged away
  for (int32_t at = 0; at < count; ++at) push(scratch, at);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto best = heap.back();
    heap.pop_back();
    auto& left = symbols[best.at];
    if (left.id == gone || left.next < 0) continue;
    auto& right = symbols[left.next];
    const auto* found = find_merge(left.id, right.id);
    if (found == nullptr || found->id != best.id) continue;  // one of them has grown
    left.id = best.id;
    left.begin = std::min(left.begin, right.begin);
    left.end = std::max(left.end, right.end);
    left.next = right.next;
    right.id = gone;
    if (left.next >= 0) symbols[left.next].previous = best.at;
    if (left.previous >= 0) push(scratch, left.previous);
    push(scratch, best.at);
  }
  for (int32_t at = 0; at >= 0; at = symbols[at].next) {
    pieces.push_back({symbols[at].id, symbols[at].begin, symbols[at].end});
  }
}

}  // namespace resurface
