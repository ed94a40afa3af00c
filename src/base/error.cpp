#include "base/error.h"

#include <string_view>

namespace hone {

void fail_check(std::source_location where, const char* condition, const std::string& message) {
  std::string_view file = where.file_name();
  if (const auto at = file.rfind("src/"); at != std::string_view::npos) file.remove_prefix(at);
  throw Error(ErrorKind::kInternal, fmt::format("{} ({}:{}: {})", message, file, where.line(), condition));
}

}  // namespace hone
