// The little of SQLite's interface that an index needs, with its errors as ours.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace resurface {

class Database {
 public:
  static Database in_memory();
  /// For reading. Throws Error when there is no such file.
  static Database open(const std::filesystem::path& path);

  /// Statements without parameters or results.
  void execute(const std::string& sql);
  /// The bytes of the database as a file holds them.
  std::string bytes() const;
  /// Throws Error "<file>: <SQLite's words>".
  [[noreturn]] void fail_here() const;

 private:
  friend class Statement;
  struct Close {
    void operator()(sqlite3* database) const;
  };
  Database(const std::string& path, int flags);
  std::string name_;
  std::unique_ptr<sqlite3, Close> handle_;
};

/// A statement with ?1, ?2 ... as parameters (from 1) and columns (from 0). It must not outlive its
/// database.
class Statement {
 public:
  Statement(const Database& database, std::string_view sql);
  Statement& bind(int parameter, std::string_view text);
  Statement& bind(int parameter, int64_t number);
  /// To the next row; false after the last.
  bool step();
  /// For the next round with other parameters.
  void reset();
  std::string text(int column) const;
  double number(int column) const;
  int64_t integer(int column) const;

 private:
  struct Finalize {
    void operator()(sqlite3_stmt* statement) const;
  };
  const Database& database_;
  std::unique_ptr<sqlite3_stmt, Finalize> handle_;
};

}  // namespace resurface
