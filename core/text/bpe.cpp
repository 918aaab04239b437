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

}  // namespace

Bpe::Bpe(const JsonNode& model) {
  if (model.has("type") && model.at("type").string() != "BPE") {
    model.unsupported(fmt::format("model '{}'", model.at("type").string()));
  }
  if (model.has("dropout") && model.at("dropout").json != 0) model.unsupported("dropout");
  if (model.flag("byte_fallback", false)) model.unsupported("byte_fallback");
  for (const std::string affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (model.has(affix) && !model.at(affix).string().empty()) model.unsupported(affix);
  }
  fuse_unknown_ = model.flag("fuse_unk", false);
  read_vocabulary(model.at("vocab"));
  read_merges(model.at("merges"));
  read_unknown(model);
  find_whole_words(model.flag("ignore_merges", false));
}

void Bpe::read_vocabulary(const JsonNode& node) {
  std::unordered_map<uint32_t, std::string> by_id;
  for (const auto& [token, value] : node.object().items()) {
    const auto id = JsonNode{value, node.file, node.path + "['" + token + "']"}.id();
    vocabulary_.emplace(token, id);
    const auto [other, fresh] = by_id.emplace(id, token);
    if (!fresh) fail("{}: '{}' and '{}' both have id {}", node.where(), other->second, token, id);
  }
  if (vocabulary_.empty()) node.wrong("at least one token");
}

void Bpe::read_merges(const JsonNode& node) {
  const auto& list = node.array();
  merges_.resize(std::bit_ceil(2 * list.size() + 1));
  uint32_t rank = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const auto entry = node.at(i);
    if (list[i].is_string() && entry.string().starts_with("#version")) continue;
    const auto [left, right] = read_merge(entry);
    const auto id = [&](const std::string& token) {
      const auto found = vocabulary_.find(token);
      if (found == vocabulary_.end()) {
        fail("{}: merge '{} {}' names '{}', which is not in the vocabulary", entry.where(), left,
             right, token);
      }
      return found->second;
    };
    const auto pair = pair_of(id(left), id(right));
    slot(pair) = {pair, rank++, id(left + right)};
  }
}

void Bpe::read_unknown(const JsonNode& model) {
  byte_ids_.fill(-1);
  const auto alphabet = byte_alphabet();
  bool complete = true;
  for (size_t byte = 0; byte < 256; ++byte) {
    const auto found = vocabulary_.find(alphabet[byte]);
    if (found != vocabulary_.end()) byte_ids_[byte] = found->second;
    complete = complete && found != vocabulary_.end();
  }
  if (complete || !model.has("unk_token")) return;
  const auto entry = model.at("unk_token");
  const auto found = vocabulary_.find(entry.string());
  if (found == vocabulary_.end()) entry.wrong("a token of the vocabulary");
  unknown_ = found->second;
}

void Bpe::find_whole_words(bool ignore_merges) {
  Scratch scratch;
  for (const auto& [token, id] : vocabulary_) {
    const auto bytes = bytes_of_alphabet(token);
    if (!bytes || bytes->empty()) continue;
    bool whole = ignore_merges;
    if (!whole) {
      merge(*bytes, scratch);
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

void Bpe::encode(std::string_view word, Scratch& scratch) const {
  if (const auto found = whole_.find(word); found != whole_.end()) {
    scratch.pieces.assign(1, {found->second, 0, static_cast<uint32_t>(word.size())});
    return;
  }
  merge(word, scratch);
}

namespace {

/// The earliest learned merge first, the leftmost among equals.
bool later(const Bpe::Scratch::Candidate& a, const Bpe::Scratch::Candidate& b) {
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

void Bpe::merge(std::string_view word, Scratch& scratch) const {
  auto& [symbols, heap, pieces] = scratch;
  symbols.clear();
  heap.clear();
  pieces.clear();

  bool after_unknown = false;
  for (uint32_t i = 0; i < word.size(); ++i) {
    const auto id = byte_ids_[static_cast<unsigned char>(word[i])];
    const bool is_unknown = id < 0;
    if (is_unknown && unknown_ < 0) continue;
    if (is_unknown && after_unknown && fuse_unknown_) {
      symbols.back().end = i + 1;
      continue;
    }
    after_unknown = is_unknown;
    const auto at = static_cast<int32_t>(symbols.size());
    symbols.push_back(
        {static_cast<uint32_t>(is_unknown ? unknown_ : id), i, i + 1, at - 1, at + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  for (int32_t at = 0; at + 1 < static_cast<int32_t>(symbols.size()); ++at) push(scratch, at);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const auto best = heap.back();
    heap.pop_back();
    auto& left = symbols[best.at];
    // A symbol that was merged away has end 0; one that has grown makes another token.
    if (left.end == 0 || left.next < 0) continue;
    auto& right = symbols[left.next];
    const auto* found = find_merge(left.id, right.id);
    if (found == nullptr || found->id != best.id) continue;
    left.id = best.id;
    left.end = right.end;
    left.next = right.next;
    right.end = 0;
    if (left.next >= 0) symbols[left.next].previous = best.at;
    if (left.previous >= 0) push(scratch, left.previous);
    push(scratch, best.at);
  }
  for (int32_t at = 0; at >= 0; at = symbols[at].next) {
    pieces.push_back({symbols[at].id, symbols[at].begin, symbols[at].end});
  }
}

}  // namespace resurface
