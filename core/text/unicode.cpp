#include "core/text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/uscript.h>

namespace resurface {
namespace {

uint32_t category(int32_t c, int version) { return newer_than(c, version) ? 0 : U_GET_GC_MASK(c); }

}  // namespace

bool newer_than(int32_t c, int version) {
  if (c < 0x180) return false;
  UVersionInfo age;
  u_charAge(c, age);
  return age[0] == 0 || age[0] > version || (age[0] == version && age[1] > 0);
}

bool is_white_space(int32_t c) {
  return c < 0x80 ? c == ' ' || (c >= 9 && c <= 13) : u_isUWhiteSpace(c) != 0;
}

bool is_word(int32_t c) {
  if (c < 0x80) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  }
  constexpr auto mask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return (U_GET_GC_MASK(c) & mask) != 0 || u_hasBinaryProperty(c, UCHAR_ALPHABETIC) ||
         u_hasBinaryProperty(c, UCHAR_JOIN_CONTROL);
}

bool is_numeric(int32_t c) {
  return c < 0x80 ? c >= '0' && c <= '9' : (U_GET_GC_MASK(c) & U_GC_N_MASK) != 0;
}

bool is_punctuation(int32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !(is_word(c) && c != '_');
  // Both were punctuation then: CANADIAN SYLLABICS CHI SIGN, SHARADA SANDHI MARK.
  return (category(c, 8) & U_GC_P_MASK) != 0 || c == 0x166D || c == 0x111C9;
}

bool is_control_like(int32_t c) {
  return (category(c, 8) & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK)) != 0;
}

bool is_nonspacing_mark(int32_t c) {
  if (c == 0x1734) return true;  // a spacing mark since Unicode 14
  // Letters, a spacing mark and punctuation in Unicode 8.
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;
  return (category(c, 8) & U_GC_MN_MASK) != 0;
}

bool is_combining_mark(int32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // letters since Unicode 12
  return (category(c, 9) & U_GC_M_MASK) != 0 && c != 0x111C9;
}

bool is_chinese(int32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
         (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

int script_of(int32_t c) {
  if (c == ' ' || newer_than(c, 9)) return any_script;
  UErrorCode status = U_ZERO_ERROR;
  const auto script = uscript_getScript(c, &status);
  if (U_FAILURE(status) || script == USCRIPT_UNKNOWN) return any_script;
  // Since then these four have moved, and no others that there were.
  if (c == 0x589 || c == 0x61C) return USCRIPT_COMMON;
  if (c == 0x953 || c == 0x954) return USCRIPT_DEVANAGARI;
  const bool kana = script == USCRIPT_HIRAGANA || script == USCRIPT_KATAKANA || c == 0x30FC;
  return kana ? USCRIPT_HAN : script;
}

}  // namespace resurface
