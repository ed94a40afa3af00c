// Models of the Hugging Face hub, found in the cache that `hf download` and Transformers fill. Nothing is
// fetched.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace hone::hub {

/// The directory of a model: `model` itself where a file or directory of that name is there; else, for a name
/// of the hub ("Qwen/Qwen3-0.6B", "gpt2", or with a branch, tag or commit: "Qwen/Qwen3-0.6B@main"), its
/// snapshot in the cache, as huggingface_hub's try_to_load_from_cache looks for it: CACHE/models--ORG--NAME,
/// where refs/REVISION (refs/main) holds the commit's name, and snapshots/COMMIT the files. CACHE is
/// HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else hub/ below HF_HOME, else XDG_CACHE_HOME/huggingface/hub,
/// else
/// ~/.cache/huggingface/hub. nullopt where there is neither.
std::optional<std::filesystem::path> find_model(const std::string& model);

/// The same. Throws Error(kUser) for a name ORG/NAME of the hub that is not there, with why_not_found; any
/// other path is returned as it is, for the reader of its files to complain about.
std::filesystem::path resolve_model(const std::string& model);

/// What was looked for and how to get it, for a model that find_model does not find: "there is no directory X
/// in /home/me, and …; `hf download X` fetches it".
std::string why_not_found(const std::string& model);

}  // namespace hone::hub
