// The files of a model's directory that are not weights: listed and pinned once, copied to what is saved.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "hub/pinned_bytes.h"

namespace hone::hub {

/// True for files and directories that are not copied: weights of any format and what belongs to them
/// (*.safetensors, *.bin, *.pt, *.gguf, *.onnx …, their index files, an adapter's
/// configuration, original/, onnx/, openvino/ …) and
/// Trainer's checkpoint-N/ directories. `relative` is a path inside the checkpoint directory.
bool is_left_out(const std::filesystem::path& relative);

/// True for the files that save_pretrained of Transformers' models and tokenizers write beside the weights
/// (config.json, generation_config.json, tokenizer*, vocab.json, chat_template.jinja …): a save replaces
/// these where they lie at the target already, and no others (a README.md there is the user's).
bool is_model_file(const std::filesystem::path& relative);

/// What lies beside the weights, as it was when list() looked. Nothing else is ever copied.
///
/// Directories are entered, hidden ones (.git, .cache) not. Of links only these are followed: files and
/// directories inside the directory; in the Hugging Face cache, files to the repository's own blobs/; files
/// outside that bear the link's own name, one of a model's (is_model_file), so that a directory may be put
/// together of another's tokenizer.json. Any other link is left out, that what a stranger's checkpoint points
/// at
/// (~/.ssh, /etc/passwd) ends in no output. Pipes, sockets and devices are never opened.
class OtherFiles {
 public:
  struct File {
    std::filesystem::path name;  ///< relative to the directory
    PinnedBytes bytes;
  };

  /// Throws Error(kUser) for a directory or a file that cannot be read, and for a broken link.
  static OtherFiles list(const std::filesystem::path& directory);
  /// For a model that comes from a config file alone, whatever it is called: this as config.json, and the
  /// files of its directory that is_model_file() knows.
  static OtherFiles of_config(const std::filesystem::path& config);

  const std::vector<File>& files() const { return files_; }
  /// One of them, whole. Throws Error(kInternal) where there is none of that name.
  std::string content(const std::filesystem::path& name) const;
  /// Weights in other formats, relative paths ("onnx/" for a directory), sorted: for the user to know. Files
  /// that CheckpointWriter writes anyway are among them.
  const std::vector<std::string>& left_out() const { return left_out_; }
  /// Links that were not followed and things that are no files: "data -> /home/x/.ssh", "pipe". Sorted.
  const std::vector<std::string>& not_followed() const { return not_followed_; }
  /// Where they were, links resolved.
  const std::filesystem::path& directory() const { return directory_; }

 private:
  class Lister;
  std::filesystem::path directory_;
  std::vector<File> files_;
  std::vector<std::string> left_out_, not_followed_;
};

}  // namespace hone::hub
