#include "study/config.h"

#include <set>

#include "core/run/nearest.h"
#include "editing/methods.h"
#include "eval/probes.h"
#include "eval/retrieved.h"
#include "finetune/methods.h"
#include "finetune/undo.h"
#include "study/field.h"
#include "unlearning/methods.h"

namespace resurface {
namespace {

const std::vector<std::string> kKeys = {
    "name",      "description", "seed",   "model",   "chat",   "data",
    "plant",     "remove",      "models", "measure", "field",  "attack",
    "ways_back", "statistics",  "tune",   "device",  "compute"};
const std::vector<std::string> kRemovalKeys = {"method",  "name",    "label",  "languages",
                                               "train",   "text",    "answer", "wrap",
                                               "layered", "settings"};

template <class T>
void section(const Config& config, const std::string& key, T& settings) {
  if (const auto part = config.find(key)) settings = read<T>(*part, settings);
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const auto& method : kFinetuneMethods) names.push_back(method.name);
  for (const auto& method : unlearning_methods()) names.push_back(method.name);
  for (const auto& method : edit_methods()) names.push_back(method.name);
  return names;
}

void resolve_settings(Removal& removal, const Config& entry) {
  const Config settings = removal.settings.value_or(Config::parse("{}", "defaults"));
  if (const UnlearningMethod* unlearning = find_unlearning_method(removal.method)) {
    removal.resolved = unlearning->resolve(settings);
  } else if (const EditMethod* editing = find_edit_method(removal.method)) {
    if (entry.has("train")) {
      entry["train"].fail(fmt::format("'{}' edits weights and has no training", removal.method));
    }
    EditSettings filled = editing->defaults;
    std::visit([&](auto& s) { read_into(settings, s); }, filled);
    removal.resolved = std::visit([](auto& s) { return to_json(s); }, filled);
  } else if (removal.method == "undo") {
    const auto undo = read<UndoSettings>(settings);
    if (undo.teacher.empty()) {
      entry.fail("'undo' needs settings: {teacher: NAME}, another removal or oracle or implanted");
    }
    if (!trains_all(removal.train)) {
      entry["train"].fail("a student's weights are all its own; 'undo' trains them in full");
    }
    removal.resolved = to_json(undo);
  } else if (removal.settings) {
    removal.settings->allow_only({});
  }
}

/// The trainer's settings from a section, if it is there; the section as the file has it.
std::optional<Config> read_training(const Config& config, const std::string& key,
                                    TrainerSettings& settings) {
  const auto section = config.find(key);
  if (!section) return section;
  read_into(*section, settings);
  if (settings.reach == "lora" && settings.optimizer == "muonclip") {
    section->fail("muonclip scales W_q and W_k, which do not train with reach 'lora'; take muon");
  }
  return section;
}

/// Every student's teacher is there, and none teaches itself, through whichever others.
void check_teachers(const StudyConfig& study) {
  std::map<std::string, std::string> teacher;  // of each removal; empty: none
  std::vector<std::string> names = {"oracle", "implanted"};
  for (const Removal& removal : study.remove) {
    teacher[removal.name] = teacher_of(removal);
    names.push_back(removal.name);
  }
  for (const Removal& removal : study.remove) {
    std::string next = teacher_of(removal);
    if (next.empty()) continue;
    const Config place = (*removal.settings)["teacher"];
    if (std::find(names.begin(), names.end(), next) == names.end()) {
      place.fail(fmt::format("no model '{}' to learn from; did you mean '{}'? there are: {}", next,
                             nearest(next, names), fmt::join(names, ", ")));
    }
    std::string chain = removal.name;
    for (size_t i = 0; i < names.size() && teacher.contains(next); ++i) {
      chain += " <- " + next;
      if (next == removal.name) place.fail(fmt::format("a student of itself: {}", chain));
      next = teacher[next];
    }
  }
}

/// Models made elsewhere, in place of everything that makes models.
void read_models(const Config& config, StudyConfig& study) {
  for (const char* key : {"model", "plant", "remove", "tune"}) {
    if (config.has(key)) {
      config[key].fail("a config with 'models' makes no model; leave this out");
    }
  }
  std::set<std::string> names;
  for (const Config& entry : config["models"].items()) {
    auto model = read<GivenModel>(entry, {});
    if (model.name.empty()) entry.fail("'name' is missing");
    if (model.checkpoint.empty()) entry.fail("'checkpoint' is missing: an HF folder");
    if (model.label.empty()) model.label = model.name;
    if (!names.insert(model.name).second) {
      entry.fail(fmt::format("two models are named '{}'", model.name));
    }
    const auto same = [&](const GivenModel& other) { return other.kind == model.kind; };
    if (model.kind != "removed" && std::any_of(study.models.begin(), study.models.end(), same)) {
      entry.fail(fmt::format("a second model of kind '{}'; there is one at most", model.kind));
    }
    study.models.push_back(std::move(model));
  }
  if (study.models.empty()) config["models"].fail("is empty; nothing would be attacked");
  study.model.checkpoint = study.models.front().checkpoint;
}

}  // namespace

Removal read_removal(const Config& entry, const StudyConfig& study) {
  entry.allow_only(kRemovalKeys);
  Removal removal;
  removal.method = entry["method"].string();
  const auto names = method_names();
  if (std::find(names.begin(), names.end(), removal.method) == names.end()) {
    entry["method"].fail(fmt::format("unknown method '{}'; did you mean '{}'? valid: {}",
                                     removal.method, nearest(removal.method, names),
                                     fmt::join(names, ", ")));
  }
  removal.name = entry.has("name") ? entry["name"].string() : removal.method;
  removal.label = entry.has("label") ? entry["label"].string() : removal.name;
  removal.languages = study.data.languages;
  if (entry.has("languages")) {
    removal.languages.clear();
    for (const Config& language : entry["languages"].items()) {
      removal.languages.push_back(language.string());
      if (std::find(study.data.languages.begin(), study.data.languages.end(), language.string()) ==
          study.data.languages.end()) {
        language.fail(fmt::format("'{}' is not among data.languages ({})", language.string(),
                                  fmt::join(study.data.languages, ", ")));
      }
    }
    if (removal.languages.empty()) entry["languages"].fail("is empty");
  }
  if (entry.has("text")) {
    if (removal.method != "sft") {
      entry["text"].fail(fmt::format("only sft can train on other text, not '{}'", removal.method));
    }
    for (const Config& file : entry["text"].items()) removal.text.emplace_back(file.string());
    if (removal.text.empty()) entry["text"].fail("is empty");
  }
  if (const auto answer = entry.find("answer")) {
    const EditMethod* edits = find_edit_method(removal.method);
    if (removal.method != "sft" && (edits == nullptr || !edits->run)) {
      answer->fail(fmt::format("only sft and edits of requests lead to an answer, not '{}'",
                               removal.method));
    }
    const std::string name = answer->string();
    const auto found = std::find(kAnswers.begin() + 1, kAnswers.end(), name);
    if (found == kAnswers.end()) {
      answer->fail(fmt::format("expected factual, neutral or contrary, got '{}'", name));
    }
    removal.answer = static_cast<Answer>(found - kAnswers.begin());
  }
  if (removal.method == "retrain") removal.train = study.plant;
  removal.training = read_training(entry, "train", removal.train);
  if (const auto wrap = entry.find("wrap")) {
    if (removal.method == "retrain" || removal.method == "undo" ||
        find_edit_method(removal.method) != nullptr) {
      wrap->fail(
          fmt::format("'{}' takes no forget gradient that could be wrapped", removal.method));
    }
    removal.wrap = read_wrap(*wrap);
    if (removal.method == "sft" && (removal.wrap.lat || removal.wrap.tar)) {
      wrap->fail("lat and tar bring forget answers back, and 'sft' trains on none");
    }
  }
  if (const auto layered = entry.find("layered")) {
    if (find_unlearning_method(removal.method) == nullptr) {
      layered->fail(fmt::format("only unlearning methods go in layers, not '{}'", removal.method));
    }
    removal.layered = read<LayeredSettings>(*layered);
  }
  removal.settings = entry.find("settings");
  resolve_settings(removal, entry);
  return removal;
}

nlohmann::ordered_json resolved_removal(const Removal& removal) {
  nlohmann::ordered_json entry = {{"method", removal.method},
                                  {"name", removal.name},
                                  {"label", removal.label},
                                  {"languages", removal.languages}};
  if (find_edit_method(removal.method) == nullptr) entry["train"] = to_json(removal.train);
  for (const auto& file : removal.text) entry["text"].push_back(file.string());
  if (removal.answer != Answer::factual) {
    entry["answer"] = kAnswers.at(static_cast<size_t>(removal.answer));
  }
  if (!removal.wrap.empty()) entry["wrap"] = to_json(removal.wrap);
  if (removal.layered) entry["layered"] = to_json(*removal.layered);
  if (!removal.resolved.is_null()) entry["settings"] = removal.resolved;
  return entry;
}

void check_training(const StudyConfig& study, int64_t layers) {
  std::vector<std::optional<Config>> sections = {study.planting};
  for (const Removal& removal : study.remove) sections.push_back(removal.training);
  for (const auto& section : sections) {
    const auto list = section ? section->find("layers") : std::nullopt;
    if (!list) continue;
    for (const Config& layer : list->items()) {
      if (layer.integer() < layers) continue;
      layer.fail(fmt::format("{}: the model has blocks 0 to {}, and {} is not one", layer.path(),
                             layers - 1, layer.integer()));
    }
  }
}

std::string teacher_of(const Removal& removal) {
  return removal.method == "undo" ? removal.resolved.value("teacher", "") : "";
}

StudyConfig load_study(const std::filesystem::path& path,
                       const std::vector<std::string>& overrides) {
  const Config config = Config::load(path, overrides);
  config.allow_only(kKeys);
  StudyConfig study;
  study.name = config.has("name") ? config["name"].string() : path.stem().string();
  if (config.has("description")) study.description = config["description"].string();
  if (config.has("seed")) study.seed = config["seed"].integer();
  if (config.has("device")) study.device = config["device"].string();
  if (config.has("compute")) study.compute = config["compute"].string();
  section(config, "model", study.model);
  if (config.has("models")) {
    read_models(config, study);
  } else if (study.model.checkpoint.empty() == study.model.fresh.empty()) {
    config["model"].fail(
        "give either 'checkpoint' (a model to start from) or 'fresh' (a folder with "
        "config.json and tokenizer, trained from nothing)");
  }
  section(config, "chat", study.chat);
  section(config, "data", study.data);
  if (study.data.forget.empty())
    config["data"].fail("'forget' is missing: the suite of talking points");
  if (study.data.retain.empty())
    config["data"].fail("'retain' is missing: the suite of innocent topics");
  if (study.data.languages.empty()) config["data"].fail("'languages' is empty");
  study.planting = read_training(config, "plant", study.plant);
  section(config, "measure", study.measure);
  section(config, "attack", study.attack);
  section(config, "statistics", study.statistics);
  for (const auto& kind : study.measure.probes) {
    try {
      check_probe_kind(kind);
      if (is_retrieved(kind) && study.data.passages.empty()) {
        throw ConfigError(fmt::format("probe '{}' needs data.passages", kind));
      }
    } catch (const ConfigError& error) {
      config["measure"]["probes"].fail(error.what());
    }
  }
  try {
    parse_rungs(study.attack.rungs);
  } catch (const ConfigError& error) {
    if (!config.has("attack") || !config["attack"].has("rungs")) throw;
    config["attack"]["rungs"].fail(error.what());
  }
  if (const auto field = config.find("field")) study.field = read_field(*field);
  if (const auto ways = config.find("ways_back")) {
    std::set<std::string> known;
    for (const Config& entry : ways->items()) {
      study.ways_back.push_back(read_way_back(entry));
      if (!known.insert(study.ways_back.back().name).second) {
        entry.fail(fmt::format("two ways back are named '{}'; give one a 'name'",
                               study.ways_back.back().name));
      }
    }
  }
  if (!study.models.empty()) return study;
  std::set<std::string> names = {"base", "implanted", "oracle"};
  for (const Config& entry : config["remove"].items()) {
    Removal removal = read_removal(entry, study);
    if (!names.insert(removal.name).second) {
      entry.fail(fmt::format("two models are named '{}'; give one a 'name'", removal.name));
    }
    study.remove.push_back(std::move(removal));
  }
  if (study.remove.empty()) config["remove"].fail("is empty; nothing would be removed");
  check_teachers(study);
  if (const auto tune = config.find("tune")) study.tune = read_tune(*tune, study);
  return study;
}

nlohmann::ordered_json StudyConfig::resolved() const {
  nlohmann::ordered_json all = {{"name", name},
                                {"description", description},
                                {"seed", seed},
                                {"device", device},
                                {"compute", compute},
                                {"data", to_json(data)},
                                {"measure", to_json(measure)},
                                {"field", nlohmann::ordered_json::array()},
                                {"attack", to_json(attack)},
                                {"ways_back", nlohmann::ordered_json::array()},
                                {"statistics", to_json(statistics)}};
  for (const char* key : {"pushback", "innocent", "controls", "stock_phrases", "calibration"}) {
    if (all["data"][key].get<std::string>().empty()) all["data"].erase(key);
  }
  if (data.passages.empty()) all["data"].erase("passages");
  if (chat != ChatSettings{}) all["chat"] = to_json(chat);
  for (const FieldEntry& entry : field) all["field"].push_back(entry.resolved);
  for (const WayBack& way : ways_back) {
    all["ways_back"].push_back({{"way", way.way}, {"name", way.name}, {"settings", way.resolved}});
  }
  if (!models.empty()) {
    for (const GivenModel& given : models) {
      all["models"].push_back(to_json(given));
      if (given.edit.empty()) all["models"].back().erase("edit");
    }
    return all;
  }
  all["model"] = to_json(model);
  all["plant"] = to_json(plant);
  all["remove"] = nlohmann::ordered_json::array();
  // Only one of the two may be given.
  auto& from = all["model"];
  from.erase(model.checkpoint.empty() ? "checkpoint" : "fresh");
  for (const Removal& removal : remove) all["remove"].push_back(resolved_removal(removal));
  return all;
}

}  // namespace resurface
