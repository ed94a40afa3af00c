#include "data/missing_stops.h"

#include <algorithm>
#include <string_view>

#include "base/error.h"

namespace hone::data {

namespace {

/// How a span ends.
struct End {
  bool stops = false;
  std::string added;  // its last token that is no white space, where that is an added one
  std::string next;   // the token behind it, where that is an added one
};

End end_of(const RenderedChat& chat, const TextSpan& span, const Markers& markers) {
  const auto& [ids, offsets] = chat.encoding;
  const std::string_view text = chat.rendered.text;
  const auto of_token = [&](std::size_t i) {
    return text.substr(offsets[i].first, offsets[i].second - offsets[i].first);
  };
  End end;
  std::size_t i =
      static_cast<std::size_t>(std::partition_point(offsets.begin(), offsets.end(),
                                                    [&](const auto& o) { return o.second <= span.begin; }) -
                               offsets.begin());
  for (; i < ids.size() && offsets[i].first < span.end; ++i) {
    end.stops = end.stops || markers.is_stop(ids[i]);
    if (of_token(i).find_first_not_of(" \t\r\n") == std::string_view::npos) continue;
    end.added = markers.is_added(ids[i]) ? of_token(i) : "";
  }
  while (i < ids.size() && of_token(i).find_first_not_of(" \t\r\n") == std::string_view::npos) ++i;
  if (i < ids.size() && markers.is_added(ids[i])) end.next = of_token(i);
  return end;
}

std::string place_of(const RenderedChat& chat, const TextSpan& span, const std::vector<std::string>& places) {
  for (const auto& source : chat.rendered.sources)
    if (source.end > span.begin && source.begin < span.end && source.message >= 0 && is_content(source))
      return places[static_cast<std::size_t>(source.message)];
  return "";
}

}  // namespace

void find_missing_stops(const RenderedChat& chat, const std::vector<TextSpan>& spans, const Markers& markers,
                        bool blocks, std::vector<Finding>& findings) {
  std::vector<End> ends;
  for (const TextSpan& span : spans) ends.push_back(end_of(chat, span, markers));
  const bool any = std::any_of(ends.begin(), ends.end(), [](const End& end) { return end.stops; });
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const End& end = ends[i];
    if (end.stops) continue;
    const std::string place = place_of(chat, spans[i], chat.places);
    if (!end.added.empty()) {
      if (!any) findings.push_back({FindingKind::kOtherStop, end.added, place});
    } else if (blocks && !end.next.empty()) {
      findings.push_back({FindingKind::kNoStop,
                          fmt::format("the chat template's {{% generation %}} block ends before '{}'; end it "
                                      "behind that token",
                                      end.next),
                          place});
    } else {
      findings.push_back({FindingKind::kNoStop,
                          blocks
                              ? "nothing in the chat template's {% generation %} block ends the turn; write "
                                "{{ eos_token }} at its end"
                              : "the chat template writes no end of turn; write {{ eos_token }} behind an "
                                "assistant's message",
                          place});
    }
  }
}

}  // namespace hone::data
