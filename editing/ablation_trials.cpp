#include "editing/ablation_trials.h"

#include "core/run/files.h"

namespace resurface {

using Json = nlohmann::ordered_json;

static Json parameters(const std::vector<SearchParameter>& space, const Trial& trial) {
  Json json;
  for (size_t p = 0; p < space.size(); ++p) json[space[p].name] = trial.values[p];
  return json;
}

Json describe_trial(const AblationTrial& done, const std::vector<SearchParameter>& space,
                    size_t number, const AblationSettings& settings) {
  return {{"trial", number},
          {"random", static_cast<int64_t>(number) < settings.startup},
          {"rate", done.trial.objectives[0]},
          {"kl", done.trial.objectives[1]},
          {"parameters", parameters(space, done.trial)},
          {"flops", done.flops},
          {"seconds", done.seconds}};
}

std::vector<AblationTrial> read_trials(const std::filesystem::path& log,
                                       const std::vector<SearchParameter>& space) {
  std::vector<AblationTrial> trials;
  if (!std::filesystem::exists(log)) return trials;
  for_each_json_line(
      log,
      [&](const Json& line, int64_t) {
        const auto number = [](const Json& value) { return value.get<double>(); };
        AblationTrial done{
            .trial = {.values = {}, .objectives = {number(line.at("rate")), number(line.at("kl"))}},
            .flops = number(line.at("flops")),
            .seconds = number(line.at("seconds"))};
        for (const auto& parameter : space) {
          done.trial.values.push_back(number(line.at("parameters").at(parameter.name)));
        }
        trials.push_back(std::move(done));
      },
      TornLine::drop);
  return trials;
}

}  // namespace resurface
