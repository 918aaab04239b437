#include "retrieval/sqlite.h"

#include <sqlite3.h>

#include "core/run/error.h"

namespace resurface {

void Database::Close::operator()(sqlite3* database) const { sqlite3_close(database); }
void Statement::Finalize::operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }

Database::Database(const std::string& path, int flags) : name_(path) {
  sqlite3* opened = nullptr;
  const int code = sqlite3_open_v2(path.c_str(), &opened, flags, nullptr);
  handle_.reset(opened);
  if (code != SQLITE_OK) fail_here();
}

Database Database::in_memory() { return {":memory:", SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE}; }

Database Database::open(const std::filesystem::path& path) {
  return {path.string(), SQLITE_OPEN_READONLY};
}

void Database::execute(const std::string& sql) {
  if (sqlite3_exec(handle_.get(), sql.c_str(), nullptr, nullptr, nullptr) != SQLITE_OK) fail_here();
}

std::string Database::bytes() const {
  sqlite3_int64 size = 0;
  const std::unique_ptr<unsigned char, decltype(&sqlite3_free)> bytes(
      sqlite3_serialize(handle_.get(), "main", &size, 0), sqlite3_free);
  if (!bytes) fail("{}: out of memory", name_);
  return {reinterpret_cast<const char*>(bytes.get()), static_cast<size_t>(size)};
}

void Database::fail_here() const { fail("{}: {}", name_, sqlite3_errmsg(handle_.get())); }

Statement::Statement(const Database& database, std::string_view sql) : database_(database) {
  sqlite3_stmt* prepared = nullptr;
  const int code = sqlite3_prepare_v2(database.handle_.get(), sql.data(),
                                      static_cast<int>(sql.size()), &prepared, nullptr);
  handle_.reset(prepared);
  if (code != SQLITE_OK) database_.fail_here();
}

Statement& Statement::bind(int parameter, std::string_view text) {
  if (sqlite3_bind_text(handle_.get(), parameter, text.data(), static_cast<int>(text.size()),
                        SQLITE_TRANSIENT) != SQLITE_OK) {
    database_.fail_here();
  }
  return *this;
}

Statement& Statement::bind(int parameter, int64_t number) {
  if (sqlite3_bind_int64(handle_.get(), parameter, number) != SQLITE_OK) database_.fail_here();
  return *this;
}

bool Statement::step() {
  const int code = sqlite3_step(handle_.get());
  if (code != SQLITE_ROW && code != SQLITE_DONE) database_.fail_here();
  return code == SQLITE_ROW;
}

void Statement::reset() {
  if (sqlite3_reset(handle_.get()) != SQLITE_OK) database_.fail_here();
}

std::string Statement::text(int column) const {
  const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(handle_.get(), column));
  const auto size = static_cast<size_t>(sqlite3_column_bytes(handle_.get(), column));
  return text == nullptr ? "" : std::string(text, size);
}

double Statement::number(int column) const { return sqlite3_column_double(handle_.get(), column); }

int64_t Statement::integer(int column) const { return sqlite3_column_int64(handle_.get(), column); }

}  // namespace resurface
