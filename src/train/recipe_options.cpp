#include "train/recipe_options.h"

#include <fmt/ranges.h>
#include <algorithm>
#include <array>
#include <limits>

#include "base/error.h"
#include "base/suggest.h"
#include "comm/mesh.h"
#include "hub/hub_cache.h"

namespace hone::train {

namespace {

std::string list_text(const std::vector<std::string>& items) {
  std::string text = "[";
  for (const auto& item : items) text += (text.size() > 1 ? ", " : "") + quoted(item);
  return text + "]";
}

/// Options of the commonest kinds, from a pointer to member.
Option integer_option(std::string key, std::int64_t Recipe::*field, std::int64_t least, std::string help) {
  return {std::move(key), "integer", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = v.integer(least, kMany); },
          [=](const Recipe& r) { return std::to_string(r.*field); }};
}

Option boolean_option(std::string key, bool Recipe::*field, std::string help) {
  return {std::move(key), "true | false", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = v.boolean(); },
          [=](const Recipe& r) { return std::string(r.*field ? "true" : "false"); }};
}

/// A number somewhere inside a Recipe.
Option number_option(std::string key, std::function<double&(Recipe&)> field, double least, double most,
                     std::string help) {
  return {std::move(key), "number", std::move(help),
          [=](Recipe& r, const RecipeValue& v) { field(r) = v.number(least, most); },
          [=](const Recipe& r) {
            Recipe copy = r;
            return fmt::format("{}", field(copy));
          }};
}

/// One of a few words, stored as an enum.
template <typename Enum>
Option word_option(std::string key, std::vector<std::string> words, std::function<Enum&(Recipe&)> field,
                   std::string help) {
  std::string type;
  for (const auto& w : words) type += (type.empty() ? "" : " | ") + w;
  return {std::move(key), type, std::move(help),
          [=](Recipe& r, const RecipeValue& v) { field(r) = static_cast<Enum>(v.word(words)); },
          [=](const Recipe& r) {
            Recipe copy = r;
            return words.at(static_cast<std::size_t>(field(copy)));
          }};
}

/// One of two words: the second where the field is set.
Option flag_option(std::string key, const std::string& unset, const std::string& set, bool Recipe::*field,
                   std::string help) {
  return word_option<bool>(
      std::move(key), {unset, set}, [field](Recipe& r) -> bool& { return r.*field; }, std::move(help));
}

Option dtype_option() {
  return {"model.dtype", "f32 | bf16 | auto",
          "what to compute in; auto: the checkpoint's own dtype. bf16 keeps f32 master weights",
          [](Recipe& r, const RecipeValue& v) {
            constexpr std::array<std::optional<DType>, 3> kChoices{DType::kF32, DType::kBF16, std::nullopt};
            const auto& node = v.node();
            const std::string word = node.IsScalar() ? node.Scalar() : "";
            if (word == "float16" || word == "f16" || word == "fp16")
              v.expected("f32, bf16 or auto: weights in f16 are read and written, not computed in");
            const bool torch = word == "float32" || word == "bfloat16";  // Transformers' names
            r.dtype = kChoices.at(torch ? (word == "float32" ? 0 : 1) : v.word({"f32", "bf16", "auto"}));
          },
          [](const Recipe& r) { return r.dtype ? std::string(name_of(*r.dtype)) : "auto"; }};
}

Option quantized_option() {
  using model::QuantizedStorage;
  return {"model.quantized",
          "dequantize | keep",
          "what quantised weights (mxfp4, fp8) are saved as; dequantize: bf16, without "
          "quantization_config; keep: their own format, trained ones coded again",
          [](Recipe& r, const RecipeValue& v) {
            r.quantized =
                v.word({"dequantize", "keep"}) == 0 ? QuantizedStorage::kDequantize : QuantizedStorage::kKeep;
          },
          [](const Recipe& r) {
            return std::string(r.quantized == QuantizedStorage::kKeep ? "keep" : "dequantize");
          },
          Bearing::kNone};
}

Option method_option() {
  Option option{"method.type", "full", "full: train the weights themselves",
                [](Recipe&, const RecipeValue& v) {
                  if (v.string() == "lora" || v.string() == "qlora")
                    fail("{}: method.type is {}, which hone does not have yet; the only method is full",
                         v.where(), v.string());
                  v.word({"full"});
                },
                [](const Recipe&) { return std::string("full"); }};
  return std::move(option).bears(Bearing::kState);
}

Option mesh_option(const std::string& dimension) {
  return {"mesh." + dimension,
          "1",
          "ranks along " + dimension + "; only 1 exists yet",
          [=](Recipe&, const RecipeValue& v) {
            comm::Mesh::parse({{dimension, v.integer(-kMany, kMany)}}, v.where());
          },
          [](const Recipe&) { return std::string("1"); },
          Bearing::kNone};
}

Option path_option(std::string key, std::string Recipe::*field, std::string help) {
  return {std::move(key),
          "path",
          std::move(help),
          [=](Recipe& r, const RecipeValue& v) { r.*field = v.path(); },
          [=](const Recipe& r) { return (r.*field).empty() ? "" : quoted(r.*field); },
          Bearing::kNone};
}

/// For idle_where: an option of the other optimizer.
std::function<std::string(const Recipe&)> idle_with(OptimizerOptions::Type type, std::string why) {
  return [=](const Recipe& r) { return r.optimizer.type == type ? why : std::string(); };
}

/// Transformers' report_to, with hone's own places.
Option report_to_option() {
  static const std::vector<std::string> kPlaces{"console", "metrics", "tensorboard", "report"};
  return {"train.report_to",
          "list of console | metrics | tensorboard | report; all | none",
          "where the figures of steps go: the terminal, metrics.jsonl, tensorboard/, report.html",
          [](Recipe& r, const RecipeValue& v) {
            r.report_to = v.strings();
            if (r.report_to == std::vector<std::string>{"all"}) r.report_to = kPlaces;
            if (r.report_to == std::vector<std::string>{"none"}) r.report_to.clear();
            for (const auto& word : r.report_to)
              if (std::find(kPlaces.begin(), kPlaces.end(), word) == kPlaces.end())
                v.expected("a list of console, metrics, tensorboard and report; or all; or none" +
                           suggestion(word, kPlaces));
            if (r.reports_to("report") && !r.reports_to("metrics"))
              v.expected("metrics beside report, which is drawn from metrics.jsonl");
          },
          [](const Recipe& r) { return fmt::format("[{}]", fmt::join(r.report_to, ", ")); },
          Bearing::kNone};
}

void add_data_options(std::vector<Option>& options) {
  add_source_options(options);
  Option seq_len = integer_option(
      "data.seq_len", &Recipe::seq_len, 2,
      "tokens of a pack, and the most a row may have; default: 2048, or the model's context if that is less");
  seq_len.get = [](const Recipe& r) { return r.seq_len > 0 ? std::to_string(r.seq_len) : ""; };
  options.push_back(std::move(seq_len));
  options.push_back(boolean_option("data.packing", &Recipe::packing,
                                   "several rows share a pack, isolated from each other"));
  options.push_back(boolean_option("data.shuffle", &Recipe::shuffle, "a new order every epoch"));
  options.push_back(word_option<data::Overlong>(
      "data.overlong", {"error", "truncate", "drop", "split"},
      [](Recipe& r) -> data::Overlong& { return r.overlong; },
      "what becomes of a row longer than seq_len; split: a text becomes several of seq_len tokens"));
  options.push_back(word_option<data::OnDropped>(
      "data.on_dropped", {"warn", "error", "ignore"},
      [](Recipe& r) -> data::OnDropped& { return r.on_dropped; },
      "what is done about fields of rows (tool calls, reasoning, …) that the chat template writes nowhere"));
}

void add_length_options(std::vector<Option>& options) {
  options.push_back({"train.steps", "integer", "optimizer steps; across epochs where needed",
                     [](Recipe& r, const RecipeValue& v) { r.steps = v.integer(1, kMany); },
                     [](const Recipe& r) { return r.steps ? std::to_string(*r.steps) : ""; }});
  options.push_back({"train.epochs", "number", "passes over the data (also 0.5), where steps is not given",
                     [](Recipe& r, const RecipeValue& v) { r.epochs = v.number(1e-9, 1e9); },
                     [](const Recipe& r) { return r.steps ? "" : fmt::format("{}", r.epochs); }});
  options.push_back(integer_option("train.global_batch", &Recipe::global_batch, 1,
                                   "packs (rows, without packing) of an optimizer step"));
  options.push_back(integer_option("train.micro_batch", &Recipe::micro_batch, 1,
                                   "packs (rows) that are computed at once; divides global_batch"));
}

double warmup_value(const RecipeValue& v) {
  const std::string text = v.node().IsScalar() ? v.node().Scalar() : "";
  if (text.ends_with('%')) {
    const auto percent = decimal_number(YAML::Node(text.substr(0, text.size() - 1)));
    if (!percent || *percent < 0 || *percent >= 100) v.expected("a share from 0% to below 100%");
    return *percent / 100;
  }
  const auto number = decimal_number(v.node());
  return number && *number > 0 && *number < 1 ? *number : static_cast<double>(v.integer(0, kMany));
}

/// "train.optimizer.groups".
std::vector<OptimizerOptions::Group> groups_value(const RecipeValue& v) {
  std::vector<OptimizerOptions::Group> groups;
  if (v.is_null()) return groups;
  for (const auto& item : v.items()) {
    const auto fields = item.fields({"match", "lr_scale", "weight_decay"});
    if (!fields.contains("match"))
      item.expected("a mapping with match: a regular expression on parameter names");
    if (fields.size() == 1)
      item.expected("lr_scale or weight_decay beside match; without them it changes nothing");
    OptimizerOptions::Group group{.match = fields.at("match").string()};
    if (const auto scale = fields.find("lr_scale"); scale != fields.end())
      group.rate_scale = scale->second.number(0, 1e6);
    if (const auto decay = fields.find("weight_decay"); decay != fields.end())
      group.weight_decay = decay->second.number(0, 1e6);
    groups.push_back(std::move(group));
  }
  return groups;
}

std::string groups_text(const std::vector<OptimizerOptions::Group>& groups) {
  std::string text = "[";
  for (const auto& g : groups) {
    text += fmt::format("{}{{match: {}, lr_scale: {}", text.size() > 1 ? ", " : "", quoted(g.match),
                        g.rate_scale);
    text += g.weight_decay ? fmt::format(", weight_decay: {}}}", *g.weight_decay) : "}";
  }
  return text + "]";
}

void add_optimizer_options(std::vector<Option>& options) {
  options.push_back(word_option<OptimizerOptions::Type>(
                        "train.optimizer.type", {"adamw", "sgd"},
                        [](Recipe& r) -> OptimizerOptions::Type& { return r.optimizer.type; },
                        "as in torch.optim")
                        .bears(Bearing::kState));
  options.push_back(number_option(
      "train.optimizer.lr", [](Recipe& r) -> double& { return r.learning_rate; }, 0, kHuge,
      "the full learning rate"));
  options.push_back(
      {"train.optimizer.betas", "[number, number]", "AdamW's decay of the first and second moment",
       [](Recipe& r, const RecipeValue& v) {
         const auto betas = v.numbers(2, 0, 0.9999999);
         r.optimizer.beta1 = betas[0];
         r.optimizer.beta2 = betas[1];
       },
       [](const Recipe& r) { return fmt::format("[{}, {}]", r.optimizer.beta1, r.optimizer.beta2); },
       Bearing::kNumbers, idle_with(OptimizerOptions::Type::kSgd, "the optimizer is sgd")});
  options.push_back(number_option(
                        "train.optimizer.eps", [](Recipe& r) -> double& { return r.optimizer.eps; }, 0, 1,
                        "AdamW's epsilon")
                        .idle_where(idle_with(OptimizerOptions::Type::kSgd, "the optimizer is sgd")));
  options.push_back(word_option<OptimizerOptions::State>(
                        "train.optimizer.state", {"f32", "8bit"},
                        [](Recipe& r) -> OptimizerOptions::State& { return r.optimizer.state; },
                        "AdamW's moments: 8 bytes a parameter, or 2 (blocks of 256, as bitsandbytes)")
                        .bears(Bearing::kState)
                        .idle_where(idle_with(OptimizerOptions::Type::kSgd, "the optimizer is sgd")));
  options.push_back(word_option<OptimizerOptions::Master>(
                        "train.optimizer.master", {"f32", "bf16"},
                        [](Recipe& r) -> OptimizerOptions::Master& { return r.optimizer.master; },
                        "of bf16 weights; f32: a copy that gathers small updates, 4 bytes a parameter; "
                        "bf16: none, the weights are rounded at random")
                        .bears(Bearing::kState)
                        .idle_where([](const Recipe& r) {
                          return r.dtype == DType::kF32 ? "model.dtype is f32: weights are their own masters"
                                                        : "";
                        }));
  options.push_back(flag_option(
      "train.optimizer.update", "at_end", "as_ready", &Recipe::update_as_ready,
      "as_ready: each parameter as soon as its gradient is there, on a card beside backward, so that "
      "gradients take next to no memory; clipped by the norm of the step before. Needs global_batch = "
      "micro_batch"));
  options.push_back(
      word_option<OptimizerOptions::Offload>(
          "train.optimizer.offload", {"none", "host"},
          [](Recipe& r) -> OptimizerOptions::Offload& { return r.optimizer.offload; },
          "host: masters and moments lie in pinned memory of the host and pass through the card "
          "for each update, the same bits; a step takes what all of them take over the bus, less "
          "what it computes meanwhile")
          .bears(Bearing::kNone)
          .idle_where([](const Recipe& r) {
            return r.device.type == device::DeviceType::kCpu
                       ? "device is cpu: the optimizer's memory is the host's"
                       : "";
          }));
  // Another momentum may mean a buffer more or less.
  options.push_back(number_option(
                        "train.optimizer.momentum", [](Recipe& r) -> double& { return r.optimizer.momentum; },
                        0, 0.9999999, "SGD's momentum")
                        .bears(Bearing::kState)
                        .idle_where(idle_with(OptimizerOptions::Type::kAdamW,
                                              "the optimizer is adamw, whose betas say the same")));
  options.push_back(number_option(
      "train.optimizer.weight_decay", [](Recipe& r) -> double& { return r.optimizer.weight_decay; }, 0, 1e6,
      "of everything but norms and biases"));
  options.push_back(
      {"train.optimizer.groups", "list of {match, lr_scale, weight_decay}",
       "other rates and decay for the parameters in whose names match (a regular expression) is found, the "
       "first that matches, as in [{match: 'lm_head|embed', lr_scale: 0.1, weight_decay: 0}]",
       [](Recipe& r, const RecipeValue& v) { r.optimizer.groups = groups_value(v); },
       [](const Recipe& r) { return groups_text(r.optimizer.groups); }});
  options.push_back(word_option<ScheduleOptions::Type>(
      "train.schedule.type", {"constant", "linear", "cosine", "wsd"},
      [](Recipe& r) -> ScheduleOptions::Type& { return r.schedule.type; },
      "as in Transformers; wsd falls over the last tenth of the steps"));
  options.push_back({"train.schedule.warmup", "integer | share",
                     "steps in which the rate rises from 0; below 1 (0.03, 3%): a share of all steps",
                     [](Recipe& r, const RecipeValue& v) { r.schedule.warmup = warmup_value(v); },
                     [](const Recipe& r) { return fmt::format("{}", r.schedule.warmup); }});
  options.push_back(
      number_option(
          "train.schedule.min_lr_ratio", [](Recipe& r) -> double& { return r.schedule.min_lr_ratio; }, 0, 1,
          "what the rate falls to, as a share of lr")
          .idle_where([](const Recipe& r) {
            return r.schedule.type == ScheduleOptions::Type::kConstant ? "the schedule is constant" : "";
          }));
  options.push_back({"train.clip", "number | null", "largest gradient norm; null: no clipping",
                     [](Recipe& r, const RecipeValue& v) {
                       r.clip = v.number_or_null(-kHuge, kHuge);
                       if (r.clip && *r.clip <= 0) v.expected("a number above 0, or null for no clipping");
                     },
                     [](const Recipe& r) { return r.clip ? fmt::format("{}", *r.clip) : "null"; }});
}

void add_run_options(std::vector<Option>& options) {
  options.push_back({"train.seed", "integer", "of the data order, of sampled text and of random rounding",
                     [](Recipe& r, const RecipeValue& v) {
                       r.seed =
                           static_cast<std::uint64_t>(v.integer(0, std::numeric_limits<std::int64_t>::max()));
                       r.optimizer.seed = r.seed;
                     },
                     [](const Recipe& r) { return std::to_string(r.seed); }});
  options.push_back(
      flag_option("train.recompute", "none", "block", &Recipe::recompute,
                  "block: keep only every layer's input and compute the rest again for the gradient")
          .bears(Bearing::kNone));
  options.push_back(
      flag_option(
          "train.cuda_graph", "off", "auto", &Recipe::cuda_graph,
          "auto: steps on a card whose sizes come again (tokens, supervised ones, rows, the longest row) "
          "are one launch of a CUDA graph, the same bits; off: every kernel is launched by itself")
          .bears(Bearing::kNone)
          .idle_where([](const Recipe& r) {
            return r.device.type == device::DeviceType::kCpu
                       ? "device is cpu: a kernel is a call of a function"
                       : "";
          }));
  options.push_back(
      flag_option(
          "train.weight_gradients", "in_order", "beside", &Recipe::weight_gradients_beside,
          "beside: on a card the gradients of linear layers' weights (dW) are made in a stream beside "
          "the rest of backward, with the updates where those are made as_ready, the same bits; what "
          "they are made of is held longer, up to the size of the largest gradient. Experts' come with "
          "their inputs' gradients")
          .bears(Bearing::kNone)
          .idle_where([](const Recipe& r) {
            return r.device.type == device::DeviceType::kCpu ? "device is cpu: all work is done in its turn"
                                                             : "";
          }));
  options.push_back(flag_option(
      "train.fp8", "none", "block", &Recipe::fp8,
      "block: products by the matrices of attention, feed-forwards and experts, forward and of the "
      "gradient that goes on, are of operands rounded to e4m3 in blocks (128 numbers along the sum, "
      "weights 128 x 128; power-of-two scales), as DeepSeek-V3 and Transformer Engine's "
      "Float8BlockScaling have them; gradients of weights are not (torchao's rowwise_with_gw_hp), nor "
      "the embedding, head, router and norms. On compute capability 9.0 the tensor cores for e4m3 "
      "multiply; elsewhere those numbers are multiplied as bf16, which is slower than without"));
  options.push_back(
      {"train.aux_coef", "number | null",
       "coefficient of the load-balancing loss; default: the config's, where output_router_logits is true",
       [](Recipe& r, const RecipeValue& v) { r.aux_coefficient = v.number_or_null(0, 1e6); },
       [](const Recipe& r) { return r.aux_coefficient ? fmt::format("{}", *r.aux_coefficient) : "null"; }});
  options.push_back(
      integer_option("train.checkpoint_every", &Recipe::checkpoint_every, 0,
                     "steps between checkpoints, and one at every best evaluation; 0: only at the end")
          .bears(Bearing::kNone));
  options.push_back(
      integer_option("train.keep_last", &Recipe::keep_last, 1, "checkpoints that are kept, besides the best")
          .bears(Bearing::kNone));
  options.push_back(
      integer_option("train.eval_every", &Recipe::eval_every, 0,
                     "steps between evaluations; 0: before the first step and after the last only")
          .bears(Bearing::kNone)
          .idle_where([](const Recipe& r) { return r.eval_data.empty() ? "there is no data.eval" : ""; }));
  options.push_back(integer_option("train.eval_samples", &Recipe::eval_samples, 0,
                                   "eval prompts that are answered at every evaluation")
                        .bears(Bearing::kNone));
  const auto without_eval = [](const Recipe& r) {
    return r.early_stopping.patience > 0 || r.load_best ? ""
                                                        : "neither load_best nor early_stopping is asked for";
  };
  options.push_back(boolean_option("train.load_best", &Recipe::load_best,
                                   "model/ is the step with the least evaluation loss, not the last one"));
  options.push_back({"train.early_stopping.patience", "integer",
                     "evaluations in a row without a gain that end the run; 0: never",
                     [](Recipe& r, const RecipeValue& v) { r.early_stopping.patience = v.integer(0, kMany); },
                     [](const Recipe& r) { return std::to_string(r.early_stopping.patience); }});
  options.push_back(
      number_option(
          "train.early_stopping.min_delta", [](Recipe& r) -> double& { return r.early_stopping.min_delta; },
          0, kHuge, "a gain is a loss lower than the best one by more than this")
          .idle_where([](const Recipe& r) {
            return r.early_stopping.patience > 0 ? "" : "train.early_stopping.patience is not given";
          }));
  options.push_back({"train.early_stopping.metric", "eval_loss | eval_NAME_loss",
                     "which evaluation says what is best, also for load_best; default: that of the first set",
                     [](Recipe& r, const RecipeValue& v) { r.early_stopping.metric = v.string(); },
                     [](const Recipe& r) { return r.early_stopping.metric; }, Bearing::kNumbers,
                     without_eval});
  options.push_back(
      {"train.threads", "integer", "CPU threads; 0: one per core",
       [](Recipe& r, const RecipeValue& v) { r.threads = static_cast<int>(v.integer(0, 4096)); },
       [](const Recipe& r) { return std::to_string(r.threads); }, Bearing::kNone});
  options.push_back(report_to_option());
}

Option device_option() {
  return {"device",
          "cpu | cuda | cuda:N",
          "what computes; cuda: the first NVIDIA card, cuda:1 the second. A run may be continued on another. "
          "Default: HONE_DEVICE, else cpu",
          [](Recipe& r, const RecipeValue& v) {
            try {
              r.device = device::parse_device(v.string());
            } catch (const Error&) {
              v.expected("cpu, cuda or cuda:N");
            }
            if (r.device.type == device::DeviceType::kMeta) v.expected("cpu, cuda or cuda:N");
          },
          [](const Recipe& r) { return device::name_of(r.device); },
          Bearing::kNone};
}

std::vector<Option> make_options() {
  std::vector<Option> options{device_option()};
  Option model_path =
      path_option("model.path", &Recipe::model_path,
                  "a Hugging Face checkpoint directory, or a name of the hub that is in the local "
                  "cache (ORG/NAME, ORG/NAME@REVISION)");
  model_path.set = [](Recipe& r, const RecipeValue& v) {
    const std::string path = v.path();
    r.model_path = hub::find_model(path).value_or(path).string();  // check_paths says what is not there
  };
  options.push_back(std::move(model_path));
  options.push_back(dtype_option());
  options.push_back(quantized_option());
  add_data_options(options);
  options.push_back(method_option());
  options.push_back(
      {"method.freeze", "list of regular expressions",
       "parameters in whose names one is found are not trained, as in [embed_tokens, 'layers\\.[0-3]\\.']",
       [](Recipe& r, const RecipeValue& v) { r.freeze = v.strings(); },
       [](const Recipe& r) { return list_text(r.freeze); }, Bearing::kState});
  add_length_options(options);
  add_optimizer_options(options);
  add_run_options(options);
  for (std::size_t i = 0; i < comm::kNumMeshDims; ++i)
    options.push_back(mesh_option(std::string(comm::name_of(static_cast<comm::MeshDim>(i)))));
  options.push_back(path_option("output", &Recipe::output,
                                "the run directory: checkpoints, metrics, report, the trained model"));
  return options;
}

}  // namespace

Option Option::bears(Bearing on) && {
  bearing = on;
  return std::move(*this);
}

Option Option::idle_where(std::function<std::string(const Recipe&)> why) && {
  idle = std::move(why);
  return std::move(*this);
}

const std::vector<Option>& all_options() {
  static const std::vector<Option> kOptions = make_options();
  return kOptions;
}

const Option* find_option(std::string_view key) {
  const auto found =
      std::find_if(all_options().begin(), all_options().end(), [&](const Option& o) { return o.key == key; });
  return found == all_options().end() ? nullptr : &*found;
}

}  // namespace hone::train
