// Unigram (Kudo 2018): the most probable segmentation, by Viterbi.
#include "core/text/byte_trie.h"
#include "core/text/token_model.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

constexpr double unknown_penalty = 10.0;  // below the least probable token: SentencePiece's

class Unigram : public TokenModel {
 public:
  explicit Unigram(const JsonNode& node) {
    const auto list = node.at("vocab");
    std::vector<std::string> tokens;
    for (size_t i = 0; i < list.array().size(); ++i) {
      const auto entry = list.at(i);
      if (entry.array().size() != 2 || !entry.json[1].is_number()) entry.wrong("[token, score]");
      tokens.push_back(entry.at(size_t{0}).string());
      scores_.push_back(entry.json[1].get<double>());
    }
    vocabulary_ = Vocabulary(std::move(tokens));
    lowest_ = scores_.empty() ? 0 : *std::min_element(scores_.begin(), scores_.end());
    if (node.has("unk_id")) {
      const auto entry = node.at("unk_id");
      unknown_ = entry.id();
      if (unknown_ >= static_cast<int64_t>(scores_.size())) entry.wrong("an id of the vocabulary");
    }
    if (node.flag("byte_fallback", false)) {
      for (size_t byte = 0; byte < 256; ++byte) {
        byte_ids_.push_back(vocabulary_.find(fmt::format("<0x{:02X}>", byte)));
      }
    }
    std::vector<std::pair<std::string_view, uint32_t>> entries;
    for (const auto& token : vocabulary_.tokens()) {
      entries.emplace_back(token, static_cast<uint32_t>(vocabulary_.find(token)));
    }
    trie_ = ByteTrie(std::move(entries));
  }

  void encode(std::string_view word, Scratch& scratch) const override {
    auto& [symbols, heap, nodes, pieces] = scratch;
    find_best(word, nodes);
    pieces.clear();
    for (auto end = static_cast<uint32_t>(word.size()); end > 0;) {
      const auto [score, from, id] = nodes[end];
      if (id == unknown_ && !pieces.empty() && pieces.back().id == unknown_) {
        pieces.back().begin = from;  // neighbouring unknown characters are one
      } else {
        pieces.push_back({id, from, end});
      }
      end = from;
    }
    std::reverse(pieces.begin(), pieces.end());
    spell_unknown(word, pieces);
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  /// nodes[end]: the best token that ends there.
  void find_best(std::string_view word, std::vector<Scratch::Node>& nodes) const {
    constexpr auto none = ~uint32_t{0};
    nodes.assign(word.size() + 1, {0.0, none, 0});
    const auto offer = [&](uint32_t from, size_t to, double score, uint32_t id) {
      auto& node = nodes[to];
      if (node.from == none || score > node.score) node = {score, from, id};
    };
    for (size_t at = 0; at < word.size();) {
      auto next = at;
      next_code_point(word, next);
      const auto from = static_cast<uint32_t>(at);
      const auto so_far = nodes[at].score;
      bool single = false;
      trie_.prefixes(word.substr(at), [&](size_t length, uint32_t id) {
        offer(from, at + length, scores_[id] + so_far, id);
        single = single || at + length == next;
      });
      if (!single) {
        if (unknown_ < 0)
          fail("no token for '{}', and the tokenizer has no unk_id",
               utf8_lossy(word.substr(0, 64)));
        offer(from, next, lowest_ - unknown_penalty + so_far, static_cast<uint32_t>(unknown_));
      }
      at = next;
    }
  }

  /// Unknown text may be a token after all, or be written as bytes.
  void spell_unknown(std::string_view word, std::vector<Piece>& pieces) const {
    const auto is_unknown = [&](const Piece& piece) { return piece.id == unknown_; };
    if (std::none_of(pieces.begin(), pieces.end(), is_unknown)) return;
    std::vector<Piece> spelled;
    for (auto piece : pieces) {
      const auto text = word.substr(piece.begin, piece.end - piece.begin);
      const auto id = is_unknown(piece) ? vocabulary_.find(text) : piece.id;
      const auto byte_id = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
      if (id >= 0) {
        piece.id = static_cast<uint32_t>(id);
        spelled.push_back(piece);
      } else if (!byte_ids_.empty() &&
                 std::all_of(text.begin(), text.end(), [&](char c) { return byte_id(c) >= 0; })) {
        for (const char c : text) {
          spelled.push_back({static_cast<uint32_t>(byte_id(c)), piece.begin, piece.end});
        }
      } else {
        spelled.push_back(piece);
      }
    }
    pieces = std::move(spelled);
  }

  Vocabulary vocabulary_;
  std::vector<double> scores_;  ///< by id
  double lowest_ = 0;
  int64_t unknown_ = -1;
  std::vector<int64_t> byte_ids_;  ///< of <0x00> to <0xFF>; empty without byte_fallback
  ByteTrie trie_;
};

}  // namespace

std::unique_ptr<const TokenModel> read_unigram(const JsonNode& node) {
  return std::make_unique<const Unigram>(node);
}

}  // namespace resurface
