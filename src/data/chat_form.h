// Chats as data sets write them, brought into the one form that templates are written for. Inside this room
// only.
#pragma once

#include <string>

#include "data/rows.h"

namespace hone::data {

/// Normalises a checked chat, in place, and says in `findings` what changed its meaning or its text:
///   - a role that other systems call the assistant (model, gpt, bot, …) or the user (human) is that; a role
///     that is none of the known ones is named;
///   - content that is one part is a list of it, a part that is a string or has no type is a text, input_text
///     and output_text are text, as in OpenAI's Responses; a part that is no text (image, audio, video, file)
///     is refused by name: hone trains on text;
///   - an empty list of tool calls, or of tools, is none; keys that are null are left out of parts, tool
///     calls and tools (but for default and const, which may be null in a JSON schema);
///   - arguments that are null are left out, as Arrow fills in the keys of other tools, unless the tool's
///     schema has the key and lets it be null;
///   - marks on messages that hone does not read ("mask", "train" on a user's turn) are named.
/// Throws Error(kUser) "WHERE: …".
void normalise_chat(ChatRow& chat, std::vector<Finding>& findings, const std::string& where);

/// Is every part of a message's content text?
bool is_text_parts(const Json& content);
/// The texts of such parts, one behind the other.
std::string joined_parts(const Json& content);

}  // namespace hone::data
