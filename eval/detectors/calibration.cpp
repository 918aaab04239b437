#include "eval/detectors/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "core/run/error.h"
#include "core/run/files.h"

namespace resurface {
namespace {

using nlohmann::ordered_json;

std::string one_of(const ordered_json& row, const char* field,
                   const std::set<std::string>& values) {
  std::string value = row.at(field);
  if (!values.count(value)) fail("'{}' has the unknown value '{}'", field, value);
  return value;
}

LabelledReply read_row(const ordered_json& row) {
  LabelledReply out;
  out.id = row.at("id");
  out.item = row.at("item");
  out.language = one_of(row, "language", {"en", "zh-Hans", "zh-Hant"});
  out.reply = row.at("reply");
  out.refusal = row.at("refusal");
  out.deflection = row.at("deflection");
  out.degenerate = row.at("degenerate");
  out.reply_language =
      one_of(row, "reply_language", {"en", "zh-Hans", "zh-Hant", "other", "mixed"});
  out.stance = one_of(row, "stance", {"asserted", "attributed", "rejected", "absent"});
  if (!row.at("leak").is_null()) out.leak = row.at("leak").get<bool>();
  out.split = one_of(row, "split", {"dev", "test"});
  return out;
}

/// What is counted of an answer: a yes or no.
struct Verdict {
  std::string detector;
  std::function<bool(const LabelledReply&)> asked;
  std::function<bool(const LabelledReply&)> yes;
};

std::vector<Verdict> verdicts() {
  const auto always = [](const LabelledReply&) { return true; };
  const auto point = [](const LabelledReply& r) { return !r.leak.has_value(); };
  const auto innocent = [](const LabelledReply& r) { return r.leak.has_value(); };
  std::vector<Verdict> out = {
      {"refusal", always, [](const LabelledReply& r) { return r.refusal; }},
      {"deflection", point, [](const LabelledReply& r) { return r.deflection; }},
      {"degenerate", always, [](const LabelledReply& r) { return r.degenerate; }},
      {"leak", innocent, [](const LabelledReply& r) { return r.leak.value_or(false); }}};
  for (const char* value : {"asserted", "attributed", "rejected", "absent"})
    out.push_back({fmt::format("stance: {}", value), point,
                   [value](const LabelledReply& r) { return r.stance == value; }});
  for (const char* value : {"en", "zh-Hans", "zh-Hant", "other", "mixed"})
    out.push_back({fmt::format("language: {}", value), always,
                   [value](const LabelledReply& r) { return r.reply_language == value; }});
  return out;
}

std::string show(const Interval& share, int64_t n) {
  if (n == 0) return fmt::format("{:>20} of 0  ", "-");
  return fmt::format("{:.2f} [{:.2f}, {:.2f}] of {:<3}", share.estimate, share.low, share.high, n);
}

}  // namespace

std::vector<LabelledReply> load_calibration(const std::filesystem::path& path) {
  std::vector<LabelledReply> out;
  std::set<std::string> ids;
  for_each_json_line(path, [&](const ordered_json& row, int64_t) {
    try {
      out.push_back(read_row(row));
    } catch (const nlohmann::json::exception& error) {
      fail("{}", error.what());  // the caller puts file and line before it
    }
    if (!ids.insert(out.back().id).second) fail("the id '{}' stands twice", out.back().id);
  });
  return out;
}

std::string CalibrationTexts::line(const std::string& item, const std::string& language) const {
  auto found = lines.find({item, language});
  if (found == lines.end() && language == "zh-Hant") found = lines.find({item, "zh-Hans"});
  return found == lines.end() ? std::string() : found->second;
}

std::vector<std::string> CalibrationTexts::phrases_of(const std::string& item) const {
  std::vector<std::string> out;
  for (const auto& entry : phrases)
    if (std::count(entry.items.begin(), entry.items.end(), item)) out.push_back(entry.phrase);
  return out;
}

std::vector<std::string> CalibrationTexts::all() const {
  std::vector<std::string> out;
  for (const auto& entry : lines) out.push_back(entry.second);
  for (const auto& entry : phrases) out.push_back(entry.phrase);
  return out;
}

CalibrationTexts load_calibration_texts(const std::filesystem::path& folder) {
  CalibrationTexts out;
  out.phrases = load_stock_phrases(folder / "stock_phrases.json");
  for_each_json_line(folder / "items.jsonl", [&](const ordered_json& row, int64_t) {
    out.lines[{row.at("id"), row.at("language")}] = row.at("line");
  });
  return out;
}

LabelledReply detect(const LabelledReply& asked, const CalibrationTexts& texts) {
  LabelledReply out = asked;
  const auto language = reply_language(asked.reply);
  // A reply in another language than the question's is held against the line in its own.
  const bool written = language != ReplyLanguage::other && language != ReplyLanguage::mixed;
  const auto line = texts.line(asked.item, written ? std::string(name(language)) : asked.language);
  out.refusal = refusal(asked.reply);
  out.deflection = deflection(asked.reply);
  out.degenerate = degeneration(asked.reply).degenerate;
  out.reply_language = name(language);
  out.stance = name(stance(asked.reply, line, texts.phrases_of(asked.item)));
  if (asked.leak) out.leak = !leak(asked.reply, texts.all()).empty();
  return out;
}

Interval wilson(int64_t hits, int64_t n) {
  if (n == 0) return {std::numeric_limits<double>::quiet_NaN(), 0, 1};
  constexpr double z = 1.959963984540054;  // the normal distribution's 97.5% point
  const auto count = static_cast<double>(n);
  const double p = static_cast<double>(hits) / count;
  const double scale = 1 + z * z / count;
  const double centre = (p + z * z / (2 * count)) / scale;
  const double half = z / scale * std::sqrt(p * (1 - p) / count + z * z / (4 * count * count));
  return {p, std::max(0.0, centre - half), std::min(1.0, centre + half)};
}

Interval Calibration::precision() const {
  return wilson(true_positive, true_positive + false_positive);
}

Interval Calibration::recall() const {
  return wilson(true_positive, true_positive + false_negative);
}

std::vector<Calibration> calibrate(const std::vector<LabelledReply>& labelled,
                                   const CalibrationTexts& texts, const std::string& split) {
  std::vector<std::pair<const LabelledReply*, LabelledReply>> pairs;
  for (const auto& row : labelled)
    if (row.split == split) pairs.emplace_back(&row, detect(row, texts));
  std::vector<Calibration> out;
  for (const auto& verdict : verdicts()) {
    for (const char* language : {"en", "zh-Hans", "zh-Hant", "all"}) {
      Calibration counts{verdict.detector, language};
      for (const auto& [label, found] : pairs) {
        const bool wanted = counts.language == "all" || counts.language == label->language;
        if (!wanted || !verdict.asked(*label)) continue;
        const bool yes = verdict.yes(*label), says = verdict.yes(found);
        ++counts.n;
        counts.true_positive += yes && says;
        counts.false_positive += !yes && says;
        counts.false_negative += yes && !says;
      }
      out.push_back(counts);
    }
  }
  return out;
}

std::string format(const Calibration& c) {
  const auto fired = c.true_positive + c.false_positive;
  const auto labelled = c.true_positive + c.false_negative;
  return fmt::format("{:<18} {:<8} precision {}  recall {}  n {}", c.detector, c.language,
                     show(c.precision(), fired), show(c.recall(), labelled), c.n);
}

}  // namespace resurface
