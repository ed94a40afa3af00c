// A chat as its template writes it: first brought into a form that the template can take, then looked through
// for what the template left out. Inside this room only.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "data/rows.h"
#include "text/chat_template.h"

namespace hone::data {

/// Renders a chat, with Rendered::unwritten and written_containers filled. May throw Error.
using TracingRenderer = std::function<text::Rendered(const ChatRow& chat, bool generation_prompt)>;

/// What `render` gives; nullopt where the template refuses the chat. Throws what is no Error(kUser).
std::optional<text::Rendered> try_render(const TracingRenderer& render, const ChatRow& chat,
                                         bool generation_prompt);

/// Renders a chat as it is; where its template cannot take it so, in the nearest form that it can take, which
/// `chat` then has, and which `findings` name:
///   - parts of text, where the template fails, writes the list itself, or leaves a part out: one string, the
///     parts one behind the other;
///   - arguments of a tool call that are a string of JSON, where the template fails or writes them in quotes
///   a
///     second time: the object; arguments that are an object, where it fails or writes them as Python prints
///     them: a string of JSON;
///   - role developer, where the template fails or leaves the message out: role system;
///   - a message without content, where the template fails: an empty string.
/// A form counts only if it mends what it is for. Throws the Error of the first rendering where none helps.
text::Rendered render_adapted(ChatRow& chat, const TracingRenderer& render, bool generation_prompt,
                              std::vector<Finding>& findings);

/// Adds a finding for everything that `rendered` holds no character of: a message's content, or a part of it,
/// reasoning, a tool call or its arguments, tools, documents. Where the template looks unmoved, a rendering
/// with other values there has the last word: what changes the text is not lost. Reasoning and words that the
/// template leaves out of earlier turns alone are counted apart; a turn of which no more is left than its end
/// is, too. `rendered` is what `render` made of the chat with that `generation_prompt`.
void find_dropped(const ChatRow& chat, const text::Rendered& rendered, const TracingRenderer& render,
                  bool generation_prompt, std::vector<Finding>& findings);

}  // namespace hone::data
