// What the tests of data share: a tiny byte-level tokenizer, model directories made of it, files of rows.
#pragma once

#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "tests/temporary_directory.h"
#include "text/pretrained_tokenizer.h"
#include "text/tokenizer.h"

namespace hone::data::test {

using hone::test::TemporaryDirectory;

using Json = nlohmann::ordered_json;

/// tokenizer.json: a token per byte, a few merges ("Ġt", "Ġthe", "ĠP", "ĊĊ", ".Ċ"), and the special tokens of
/// several families. With `bos`, the post-processor puts <s> before a text.
std::string tokenizer_json(bool bos);
/// The tiny tokenizer, loaded.
const text::Tokenizer& tiny_tokenizer();
std::int32_t id_of(const std::string& token);

/// The runs of learnt tokens, each as text.
std::vector<std::string> learnt_runs(const std::vector<std::int32_t>& ids,
                                     const std::vector<std::int32_t>& labels);

/// The text of tests/data/chats/NAME.jinja.
std::string chat_template_text(const std::string& name);

/// Writes a tokenizer directory: the tiny tokenizer, its config and the named template ("" for none).
void write_tokenizer(const TemporaryDirectory& directory, const std::string& chat_template,
                     const std::string& eos = "<|im_end|>", bool bos = false);

/// The tiny tokenizer with the template chats/chatml.jinja, loaded.
const text::PretrainedTokenizer& chatml();

/// what() of the Error that `action` throws; "" if it throws none.
template <typename Action>
std::string error_of(Action&& action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace hone::data::test
