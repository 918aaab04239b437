// Formulas for a terminal.
#pragma once

#include <string>
#include <string_view>

namespace resurface {

/// LaTeX as one line of text: "\frac{1}{k} \sum_{i \in S} \theta_i" becomes "(1 / k) Σ_{i ∈ S}
/// θ_i". Of LaTeX it knows what the methods' formulas use; throws Error naming any other command.
std::string plain_math(std::string_view latex);

}  // namespace resurface
