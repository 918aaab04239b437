#include "study/inputs.h"

#include "core/checkpoint/checkpoint.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/hash.h"
#include "study/field.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

bool has(const std::vector<std::string>& values, const std::string& value) {
  return std::find(values.begin(), values.end(), value) != values.end();
}

/// The study's languages and first items of a suite.
Suite select(Suite suite, const DataSettings& data, const fs::path& path, const std::string& name) {
  const auto present = suite.languages();
  for (const std::string& language : data.languages) {
    if (!has(present, language)) {
      fail("{}: has no items in '{}' (data.languages); it has {}", path.string(), language,
           fmt::join(present, ", "));
    }
  }
  std::vector<std::string> ids = suite.ids();
  if (data.items > 0 && data.items < static_cast<int64_t>(ids.size())) {
    ids.resize(static_cast<size_t>(data.items));
  }
  std::erase_if(suite.items, [&](const Item& item) {
    return !has(data.languages, item.language) || !has(ids, item.id);
  });
  suite.name = name;
  return suite;
}

std::string hash_start(const fs::path& folder, bool weights, const ChatSettings& settings,
                       const ChatFormat& chat) {
  Hasher hasher;
  const auto add = [&](const char* name) {
    if (fs::exists(folder / name)) hasher.add(name).add(hash_file(folder / name));
  };
  add("config.json");
  for (const char* name : kTextFiles) add(name);
  const fs::path config = folder / "tokenizer_config.json";
  const bool complete = fs::exists(config) && read_json(config).contains("added_tokens_decoder");
  if (!complete) {
    for (const char* name : kOlderTextFiles) add(name);
  }
  // What the files do not say: another format, and a template's date.
  if (settings != ChatSettings{} || chat.dated()) {
    hasher.add("chat").add(to_json(settings).dump());
    hasher.add(chat.prompt({{"user", "Q"}, {"assistant", "A"}, {"user", "Q"}}));
    hasher.add(chat.answer_start()).add(chat.answer_end());
  }
  if (weights) hasher.add(Checkpoint::open(folder).content_hash());
  return hasher.hex();
}

}  // namespace

Suite load_texts(const std::vector<fs::path>& paths, const std::string& name) {
  Suite suite{.name = name, .items = {}};
  for (const fs::path& path : paths) {
    for_each_json_line(path, [&](const nlohmann::json& row, int64_t line) {
      const auto text = [&](const char* key) {
        if (!row.is_object() || !row.contains(key) || !row[key].is_string() ||
            row[key].get<std::string>().empty()) {
          fail("'{}' is missing or no text; a line is {{\"question\", \"answer\", \"language\"}}",
               key);
        }
        return row[key].get<std::string>();
      };
      Item item{.id = fmt::format("{}:{}", path.filename().string(), line),
                .topic = name,
                .language = text("language"),
                .line = text("answer")};
      item.questions.push_back({.text = text("question")});
      suite.items.push_back(std::move(item));
    });
  }
  return suite;
}

std::vector<Example> StudyInputs::examples(const Suite& suite, Answer answer,
                                           const std::vector<std::string>& languages) const {
  std::vector<Example> all;
  for (Probe& probe : make_probes(suite, tokenizer, chat, answer, false, model.context)) {
    const Item& item = suite.items[static_cast<size_t>(probe.item)];
    if (!has(languages, item.language)) continue;
    probe.example.tags = {item.id};
    all.push_back(std::move(probe.example));
  }
  return all;
}

StudyInputs load_inputs(const StudyConfig& config) {
  const bool fresh = config.model.checkpoint.empty();
  const fs::path start = fresh ? config.model.fresh : config.model.checkpoint;
  StudyInputs in{
      .start = start,
      .tokenizer = Tokenizer::load(start),
      .chat = ChatFormat::load(start, config.chat),
      .model =
          read_model_config(read_json(start / "config.json"), (start / "config.json").string()),
      .forget = select(load_suite(config.data.forget), config.data, config.data.forget, "forget"),
      .retain = select(load_suite(config.data.retain), config.data, config.data.retain, "retain"),
      .text = load_texts(config.data.text, "text"),
      .benign = load_texts(config.data.benign, "benign"),
      .removal_text = {},
      .start_hash = {},
      .data_hash = {},
      .probe_hash = {}};
  in.start_hash = hash_start(start, !fresh, config.chat, in.chat);
  if (in.tokenizer.vocab_size() > in.model.vocab_size) {
    fail(
        "{}: the tokenizer has {} tokens, the embedding (config.json, vocab_size) {}; they do not "
        "belong together",
        start.string(), in.tokenizer.vocab_size(), in.model.vocab_size);
  }
  std::erase_if(in.text.items,
                [&](const Item& i) { return !has(config.data.languages, i.language); });
  std::erase_if(in.benign.items,
                [&](const Item& i) { return !has(config.data.languages, i.language); });

  for (const Removal& removal : config.remove) {
    if (removal.text.empty()) continue;
    Suite text = load_texts(removal.text, removal.name);
    for (const std::string& language : removal.languages) {
      if (!has(text.languages(), language)) {
        fail("removal '{}': its text has nothing in '{}'", removal.name, language);
      }
    }
    in.removal_text[removal.name] = std::move(text);
  }

  const auto& data = config.data;
  if (!data.pushback.empty()) in.pushback = load_pushback(data.pushback);
  if (!data.stock_phrases.empty()) in.phrases = load_stock_phrases(data.stock_phrases);
  if (!data.passages.empty()) {
    in.passages = PassageIndex::build(data.passages);
    for (const std::string& language : data.languages) {
      if (!in.passages->languages().contains(language)) {
        fail("data.passages has no passage in '{}' (data.languages)", language);
      }
    }
    in.probe_hash["passages"] = in.passages->hash();
  }
  const auto asked = [&](const fs::path& path, int64_t count, const char* what) {
    std::vector<OtherQuestion> some;
    if (count == 0) return some;
    if (path.empty()) throw ConfigError(fmt::format("{}", what));
    std::map<std::string, int64_t> taken;
    for (auto& question : load_other_questions(path)) {
      if (has(data.languages, question.language) && taken[question.language]++ < count)
        some.push_back(std::move(question));
    }
    return some;
  };
  in.innocent = asked(data.innocent, config.measure.innocent_questions,
                      "measure.innocent_questions needs data.innocent");
  in.controls = asked(data.controls, config.measure.control_questions,
                      "measure.control_questions needs data.controls");
  for (const fs::path* file : {&data.pushback, &data.innocent, &data.controls, &data.stock_phrases})
    if (!file->empty()) in.probe_hash[file->filename().string()] = hash_file(*file);
  std::vector<fs::path> files = {config.data.forget, config.data.retain};
  files.insert(files.end(), config.data.text.begin(), config.data.text.end());
  files.insert(files.end(), config.data.benign.begin(), config.data.benign.end());
  for (const fs::path& file : files) in.data_hash[file.filename().string()] = hash_file(file);
  for (const FieldEntry& entry : config.field) in.field_keys.push_back(field_key(entry));
  return in;
}

}  // namespace resurface
