// The ways back that train nothing, measured as the relearning attack is: the same lines, metrics
// and utility bound, on the removed model, the implanted one and the oracle alike. Each way is one
// attack of one step, so that recovered fractions and gaps mean the same.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/run/config.h"
#include "eval/attack/data.h"
#include "eval/attack/relearn.h"

namespace resurface {

/// A way with its settings: one of weight_ways(), "few_shot" or "adversarial_prefix".
struct WayBack {
  std::string name;  ///< of the rows' rung; unique
  std::string way;
  std::optional<Config> settings;
  nlohmann::ordered_json resolved;  ///< the same with defaults filled in
};

/// Reads {"way", "name", "settings"}. Errors name file, line and key.
WayBack read_way_back(const Config& entry);

/// Makes the prompts of few-shot ways. Throws Error where one exceeds `context` tokens or there are
/// too few shots.
void check_ways(const std::vector<WayBack>& ways, const AttackData& data, const Suite& forget,
                const Tokenizer& tokenizer, const ChatFormat& chat, int64_t context);

/// What the ways may need beside the model.
struct WaysContext {
  const Suite& forget;
  const Tokenizer& tokenizer;
  const ChatFormat& chat;
  const Model* reference = nullptr;  ///< for ways that need one
};

/// Rows of step 0 (rung "none") and of each way (rung: its name, reach "weights" or "prompt", step
/// 1). The model ends as it began. Throws ConfigError for a way that needs a reference where none
/// is given.
std::vector<AttackRow> ways_back(Model& model, const std::string& name, const AttackData& data,
                                 const AttackSettings& attack, const std::vector<WayBack>& ways,
                                 const WaysContext& context);

}  // namespace resurface
