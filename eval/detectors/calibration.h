// How far the detectors can be trusted: their precision and recall on hand-labelled answers.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eval/bootstrap.h"
#include "eval/detectors/detectors.h"

namespace resurface {

/// One labelled answer; suites/README.md says what the labels mean.
struct LabelledReply {
  std::string id, item, language, reply;
  bool refusal = false, deflection = false, degenerate = false;
  std::string reply_language;
  std::string stance;
  std::optional<bool> leak;  ///< none where the question was about a talking point
  std::string split;         ///< dev: rules were tuned on it; test: not, see docs/detectors.md
};

/// Errors name file, line and field.
std::vector<LabelledReply> load_calibration(const std::filesystem::path& path);

/// The texts that detectors look for, by language and item.
struct CalibrationTexts {
  std::map<std::pair<std::string, std::string>, std::string> lines;  ///< (item, language) -> line
  std::vector<StockPhrase> phrases;

  /// The item's line in that language; traditional Chinese falls back on simplified. "" for
  /// innocent items.
  std::string line(const std::string& item, const std::string& language) const;
  std::vector<std::string> phrases_of(const std::string& item) const;
  /// Lines and phrases of all items.
  std::vector<std::string> all() const;
};

/// From a folder with items.jsonl and stock_phrases.json.
CalibrationTexts load_calibration_texts(const std::filesystem::path& folder);

/// What the detectors say, in the shape of the labels.
LabelledReply detect(const LabelledReply& asked, const CalibrationTexts& texts);

/// Share of `hits` in `n` with its Wilson (1927) score interval at 95%. Without any case the share
/// is NaN and the interval [0, 1].
Interval wilson(int64_t hits, int64_t n);

/// One detector's verdict ("refusal", "stance: asserted", "language: en", ...) in one language of
/// question, or in "all".
struct Calibration {
  std::string detector, language;
  int64_t n = 0;  ///< labelled answers
  int64_t true_positive = 0, false_positive = 0, false_negative = 0;

  Interval precision() const;  ///< of the answers that the detector fires on
  Interval recall() const;     ///< of the answers that have the label
};

/// Of one split, detectors in a fixed order, each in every language and then in "all". Stance and
/// deflection are judged on talking points only, leaks on innocent topics only.
std::vector<Calibration> calibrate(const std::vector<LabelledReply>& labelled,
                                   const CalibrationTexts& texts, const std::string& split);

/// "refusal           en       precision 0.86 [0.49, 0.97] of 7   recall ...  n 67"
std::string format(const Calibration& calibration);

}  // namespace resurface
