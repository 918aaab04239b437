// The chat formats that a user can name.
#pragma once

#include <span>

namespace resurface {

struct BuiltinChat {
  const char *name, *bos, *eos;
  const char* end;  ///< of an answer
  const char* text;
};

/// Each renders conversations of texts as the family's own template does; tools are left to that.
std::span<const BuiltinChat> builtin_chat_formats();

}  // namespace resurface
