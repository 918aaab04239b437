// Decomposition and composition (Unicode standard annex 15), saying for each character how many it
// stands for.
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>

#include "core/run/error.h"
#include "core/text/unicode.h"
#include "core/text/utf8.h"

namespace resurface {
namespace {

constexpr int version = 9;

const icu::Normalizer2& data_of(NormalForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const auto* data = form == NormalForm::nfc    ? icu::Normalizer2::getNFCInstance(status)
                     : form == NormalForm::nfd  ? icu::Normalizer2::getNFDInstance(status)
                     : form == NormalForm::nfkc ? icu::Normalizer2::getNFKCInstance(status)
                                                : icu::Normalizer2::getNFKDInstance(status);
  if (U_FAILURE(status)) fail("ICU has no normalisation data: {}", u_errorName(status));
  return *data;
}

int class_of(int32_t c) { return c < 0x300 || newer_than(c, version) ? 0 : u_getCombiningClass(c); }

/// Decomposed, combining marks in canonical order.
std::vector<Change> decompose(std::string_view text, const icu::Normalizer2& data) {
  std::vector<Change> out;
  out.reserve(text.size());
  std::vector<std::pair<int, Change>> marks;  // since the last starter, with their classes
  const auto flush = [&] {
    std::stable_sort(marks.begin(), marks.end(),
                     [](const auto& a, const auto& b) { return a.first < b.first; });
    for (const auto& [order, mark] : marks) out.push_back(mark);
    marks.clear();
  };
  const auto push = [&](int32_t c, int change) {
    const auto order = class_of(c);
    if (order == 0) {
      flush();
      out.push_back({c, change});
    } else {
      marks.push_back({order, {c, change}});
    }
  };
  icu::UnicodeString parts;
  for (size_t i = 0; i < text.size();) {
    const auto c = next_code_point(text, i);
    if (c < 0x80 || newer_than(c, version) || !data.getDecomposition(c, parts)) {
      push(c, 0);
      continue;
    }
    for (int32_t at = 0; at < parts.length(); at = parts.moveIndex32(at, 1)) {
      push(parts.char32At(at), at == 0 ? 0 : 1);
    }
  }
  flush();
  return out;
}

int32_t compose(int32_t first, int32_t second, const icu::Normalizer2& data) {
  if (second < 0x80) return -1;
  const auto c = data.composePair(first, second);
  return c < 0 || newer_than(c, version) ? -1 : c;
}

std::vector<Change> composed(const std::vector<Change>& from, const icu::Normalizer2& data) {
  std::vector<Change> out;
  out.reserve(from.size());
  size_t starter = from.size();  // its place in `out`; none yet
  int last_class = -1;           // of what stands between the starter and the next character
  for (const auto& [c, change] : from) {
    const auto order = class_of(c);
    const bool has_starter = starter < out.size();
    if (has_starter && last_class < order) {
      if (const auto whole = compose(out[starter].character, c, data); whole >= 0) {
        out[starter] = {whole, out[starter].change + change - 1};
        continue;
      }
    }
    out.push_back({c, change});
    if (order == 0) {
      starter = out.size() - 1;
      last_class = -1;
    } else if (has_starter) {
      last_class = order;
    }
  }
  return out;
}

}  // namespace

bool is_normalized(std::string_view text, NormalForm form) {
  const auto ascii = [](char c) { return static_cast<signed char>(c) >= 0; };
  if (std::all_of(text.begin(), text.end(), ascii)) return true;  // ASCII is in every normal form
  if (text.size() > INT32_MAX) return false;
  UErrorCode status = U_ZERO_ERROR;
  const icu::StringPiece whole(text.data(), static_cast<int32_t>(text.size()));
  return data_of(form).isNormalizedUTF8(whole, status) && U_SUCCESS(status);
}

std::vector<Change> normalize(std::string_view text, NormalForm form) {
  const bool compatibility = form == NormalForm::nfkc || form == NormalForm::nfkd;
  auto changes = decompose(text, data_of(compatibility ? NormalForm::nfkd : NormalForm::nfd));
  if (form == NormalForm::nfd || form == NormalForm::nfkd) return changes;
  return composed(changes, data_of(NormalForm::nfc));
}

}  // namespace resurface
