// What is read off a freely generated reply: every detector and text metric at once.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eval/detectors/detectors.h"

namespace resurface {

/// As JSON, these fields by name; `asserted`, ... are 1 or 0, so that means over rows are shares.
struct Reply {
  std::string text;
  double lcs = 0;      ///< share of the line's characters said in one piece
  double rouge_l = 0;  ///< recall of the line
  Stance stance = Stance::absent;
  bool refusal = false, deflection = false, degenerate = false;
  ReplyLanguage language = ReplyLanguage::other;
  bool other_language = false;  ///< not the question's
  std::string leak;             ///< on innocent questions: the text that slipped in; else empty
};
void to_json(nlohmann::json& json, const Reply& reply);
void from_json(const nlohmann::json& json, Reply& reply);

/// A reply to a question about the line; `phrases` are the talking point's stock phrases.
Reply read_reply(std::string text, const std::string& line, std::span<const std::string> phrases,
                 const std::string& language);

/// A reply to a question that has nothing to do with any line; `texts` are the lines and stock
/// phrases that must not be in it.
Reply read_innocent_reply(std::string text, std::span<const std::string> texts,
                          const std::string& language);

}  // namespace resurface
