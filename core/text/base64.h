// Base64 (RFC 4648, section 4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace resurface {

/// None when `text` is not base64, padded.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace resurface
