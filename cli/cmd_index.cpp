// resurface index: passages to a file that can be searched.
#include "cli/command.h"
#include "core/run/error.h"
#include "retrieval/index.h"

namespace resurface {

Command add_index(CLI::App& app) {
  auto files = std::make_shared<std::vector<std::filesystem::path>>();
  auto* parser = app.add_subcommand("index", "index passages for `resurface ask`");
  parser
      ->add_option("passages", *files,
                   "JSON lines {\"id\", \"title\", \"text\", \"language\", \"source\", \"url\"}")
      ->type_name("FILE")
      ->required()
      ->check(CLI::ExistingFile);
  parser->footer(
      "Writes one SQLite file (--out): words and Chinese character pairs, ranked by BM25. It\n"
      "remembers the files it came from; `resurface ask` refuses it when one has changed since.\n"
      "The project's own passages are suites/passages/*.jsonl.");
  return {parser, [files](const Globals& globals) {
            if (globals.out.empty())
              throw ConfigError("index: --out is missing: the file to write");
            const auto index = PassageIndex::build(*files);
            index.save(globals.out);
            std::vector<std::string> counts;
            for (const auto& [language, count] : index.languages())
              counts.push_back(fmt::format("{} in {}", count, language));
            fmt::print(stderr, "{}: {}; content {}\n", globals.out.string(),
                       fmt::join(counts, ", "), index.hash());
          }};
}

}  // namespace resurface
