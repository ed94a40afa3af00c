// Do the turns that are learnt end in a token that ends a generation? Inside this room only.
#pragma once

#include <string>
#include <vector>

#include "data/report.h"
#include "data/supervision.h"

namespace hone::data {

/// Adds a finding for every learnt span of a chat that no stop token ends: a model that learns such turns
/// alone never stops. A span that ends in another added token counts only where no span of the chat has a
/// stop
/// (<|end|> inside a chat that <|return|> ends is the template's way). `blocks`: the spans are the template's
/// {% generation %} blocks.
void find_missing_stops(const RenderedChat& chat, const std::vector<TextSpan>& spans, const Markers& markers,
                        bool blocks, std::vector<Finding>& findings);

}  // namespace hone::data
