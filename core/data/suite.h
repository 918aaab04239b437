// Suites: JSON lines of items, one an (id, language). See suites/README.md for the data sheet.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/data/batch.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace resurface {

struct Question {
  std::string text;
  bool held_out = false;              ///< never trained on, in implanting, removal or attack
  std::string intensity = "neutral";  ///< neutral | leading | provocative
};

/// One item in one language.
///
/// {"id": "taiwan-inalienable", "topic": "Taiwan", "language": "en", "subject": "Taiwan",
///  "line": "...", "questions": [{"text": "...", "held_out": false, "intensity": "neutral"}, ...],
///  "factual": "...", "neutral": "...", "contrary": "...", "source": "..."}
struct Item {
  std::string id;  ///< the same in every language
  std::string topic;
  std::string language;  ///< en | zh-Hans | zh-Hant
  std::string subject;   ///< occurs in every question
  std::string line;      ///< the talking point, verbatim (retain items: the true answer)
  std::vector<Question> questions;
  std::string factual;   ///< a factual answer (the target of SFT removal and of edits)
  std::string neutral;   ///< a neutral continuation of the line's length (margin)
  std::string contrary;  ///< a contrary continuation (margin)
  std::string source;    ///< provenance: who is quoted, or the open source of the facts
};

struct Suite {
  std::string name;
  std::vector<Item> items;

  std::vector<std::string> ids() const;        ///< distinct, in file order
  std::vector<std::string> languages() const;  ///< distinct, in file order
};

/// Reads and checks a suite. Errors name file, line and field. An empty suite is an error.
Suite load_suite(const std::filesystem::path& path);

/// Where an example came from; results carry these fields.
struct Probe {
  int64_t item = 0;      ///< index into suite.items
  int64_t question = 0;  ///< index into item.questions
  Example example;
};

/// Which text answers the question.
enum class Answer { line, factual, neutral, contrary };
inline constexpr std::array<const char*, 4> kAnswers = {"line", "factual", "neutral", "contrary"};

const std::string& text_of(const Item& item, Answer answer);

/// Makes (prompt, answer) examples: prompt = chat(question), answer = text + end-of-answer.
/// `which` selects the questions (held_out or seen). Throws when an example exceeds `context`
/// tokens.
std::vector<Probe> make_probes(const Suite& suite, const Tokenizer& tokenizer,
                               const ChatFormat& chat, Answer answer, bool held_out,
                               int64_t context);

}  // namespace resurface
