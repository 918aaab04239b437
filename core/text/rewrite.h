// The steps between the input text and the model's words: normalisers, then pre-tokenisers, each
// made from its entry in tokenizer.json.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/text/json_node.h"
#include "core/text/regex.h"
#include "core/text/unicode.h"

namespace resurface {

/// Text and where each byte of it came from. A character that was changed came from all bytes of
/// those that it stands for; where `tokenizers` names another character, so do we.
struct Text {
  std::string bytes;
  size_t base = 0;  ///< position in the input of its beginning
  std::vector<Span>
      source;  ///< per byte, its span of the input; empty: bytes[i] came from base + i
  /// The most bytes that it may grow to: a few rules of a lying file could ask for any number.
  size_t limit = size_t{1} << 24;

  Span source_of(Span span) const;
  /// Of the character before position `at`; the empty span at the beginning when there is none.
  Span source_before(size_t at) const;
  Text slice(Span span) const;
};

/// Builds the rewritten form of a text, front to back. Throws Error beyond the text's limit.
class Rewriter {
 public:
  explicit Rewriter(const Text& from) : from_(from) {
    to_.base = from.base;
    to_.limit = from.limit;
    to_.bytes.reserve(from.bytes.size());
    to_.source.reserve(from.bytes.size());
  }
  void keep(Span span);
  /// `bytes` stand for `source` of the input.
  void put(std::string_view bytes, Span source);
  size_t size() const { return to_.bytes.size(); }
  Text take() { return std::move(to_); }

 private:
  void check_limit() const;

  const Text& from_;
  Text to_;
};

/// Replaces the text by these characters; the first `removed` old ones are left out.
void rewrite(Text& text, const std::vector<Change>& changes, size_t removed = 0);

using Normalizer = std::function<void(Text&)>;
/// Splits pieces of a text further; may rewrite the text. Pieces are in order and never empty.
using PreTokenizer = std::function<void(Text&, std::vector<Span>&)>;

/// Throws Error naming what `tokenizers` 0.22 does not have.
std::vector<Normalizer> read_normalizers(const JsonNode& node);

struct PreTokenizers {
  std::vector<PreTokenizer> steps;
  /// The last of them is ByteLevel: its bytes stay bytes, and the model is to read its vocabulary
  /// as bytes.
  bool bytes = false;
};
/// `bytes_wanted`: the model can read bytes. Throws as above.
PreTokenizers read_pre_tokenizers(const JsonNode& node, bool bytes_wanted);

using Finder = std::function<std::vector<Span>(std::string_view)>;
/// Every occurrence of a string that is not empty.
Finder find_text(std::string wanted);
/// `pattern` of Split and Replace: {"String": ...} or {"Regex": ...}.
Finder read_pattern(const JsonNode& node);
/// One character written as a string.
std::string read_character(const JsonNode& node);

/// Entries of a Sequence, at any depth up to 16, in order.
void for_each_entry(const JsonNode& node, const std::string& list,
                    const std::function<void(const JsonNode&, const std::string& type)>& entry,
                    int depth = 0);

}  // namespace resurface
