"""Chats that the templates of the field meet: plain, with system prompts, tools, reasoning, parts, and some that they refuse."""

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather.\nIn one city.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "The city, e.g. \"Paris, 巴黎\""},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": ["integer", "null"], "description": "How many days"},
            },
            "required": ["city"],
        },
        "return": {"type": "string"},
    },
}
SEARCH = {
    "type": "function",
    "function": {
        "name": "search",
        "description": "Search <docs> & more",
        "parameters": {
            "type": "object",
            "properties": {
                "query": {"type": "string"},
                "filters": {
                    "type": "object",
                    "properties": {
                        "tags": {"type": "array", "items": {"type": "string"}, "description": "tags"},
                        "limits": {"type": "array", "items": {"type": "object", "properties": {"max": {"type": "number"}}}},
                        "strict": {"type": "boolean", "default": True, "nullable": True},
                    },
                    "required": ["tags"],
                },
                "either": {"oneOf": [{"type": "string"}, {"type": "number", "default": 1.5}]},
            },
            "required": ["query", "filters"],
        },
    },
}
NOW_TOOL = {"type": "function", "function": {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}}}


def call(name, arguments, **extra):
    return {"type": "function", "function": {"name": name, "arguments": arguments}} | extra


TOOL_TURNS = [
    {"role": "system", "content": "You can use tools."},
    {"role": "user", "content": "Weather in Paris, and 5 docs?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            call("get_weather", {"city": "Paris", "days": 2, "ratio": 1.0, "ok": True, "none": None, "é": "ü\n"}, id="abcdef123"),
        ],
    },
    {"role": "tool", "content": '{"temp": 21.5, "sky": "clear"}', "tool_call_id": "abcdef123", "name": "get_weather"},
    {"role": "assistant", "content": "It is 21.5 °C."},
    {"role": "user", "content": "Thanks"},
]

CHATS = {
    "single": {"messages": [{"role": "user", "content": "Hello"}]},
    "turns": {
        "messages": [
            {"role": "user", "content": "  Hi there!\n"},
            {"role": "assistant", "content": "Hello. How can I help?  "},
            {"role": "user", "content": "Explain \"{{ braces }}\" & <tags> 🙂"},
            {"role": "assistant", "content": "\n\nNo."},
        ]
    },
    "system": {
        "messages": [
            {"role": "system", "content": " Be brief.\nVery. "},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            {"role": "user", "content": "OK"},
        ]
    },
    "developer": {"messages": [{"role": "developer", "content": "Rules."}, {"role": "user", "content": "Go"}]},
    "two systems": {
        "messages": [
            {"role": "system", "content": "A"},
            {"role": "system", "content": "B"},
            {"role": "user", "content": "u"},
            {"role": "assistant", "content": "a"},
        ]
    },
    "empty contents": {
        "messages": [
            {"role": "system", "content": ""},
            {"role": "user", "content": ""},
            {"role": "assistant", "content": ""},
        ]
    },
    "parts": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "sys"}]},
            {"role": "user", "content": [{"type": "text", "text": "one "}, {"type": "image", "image": "x.png"}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": [{"type": "text", "text": " answer "}]},
        ]
    },
    "thinking inline": {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\n4"},
            {"role": "user", "content": "3+3?"},
            {"role": "assistant", "content": "<think>three</think>6"},
        ]
    },
    "reasoning": {
        "messages": [
            {"role": "user", "content": "2+2?"},
            {"role": "assistant", "content": "4", "reasoning_content": "\nTwo and two.\n", "thinking": "\nTwo and two.\n"},
            {"role": "user", "content": "3+3?"},
            {"role": "assistant", "content": "6", "reasoning_content": "three", "thinking": "three"},
        ]
    },
    "wrong order": {"messages": [{"role": "assistant", "content": "first"}, {"role": "assistant", "content": "second"}]},
    "two users": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]},
    "unknown role": {"messages": [{"role": "user", "content": "a"}, {"role": "oracle", "content": "b"}]},
    "no content": {"messages": [{"role": "user"}]},
    "no role": {"messages": [{"content": "x"}]},
    "tools offered": {"messages": [{"role": "user", "content": "Weather?"}], "tools": [WEATHER, SEARCH, NOW_TOOL]},
    "tools with system": {
        "messages": [{"role": "system", "content": "Use tools."}, {"role": "user", "content": "Weather?"}],
        "tools": [WEATHER],
    },
    "tool call": {"messages": TOOL_TURNS, "tools": [WEATHER]},
    "tool call without tools": {"messages": TOOL_TURNS[1:5]},
    "tool result last": {"messages": TOOL_TURNS[:4], "tools": [WEATHER, SEARCH]},
    "parallel calls": {
        "messages": [
            {"role": "user", "content": "Both"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    call("get_weather", {"city": "Rome"}, id="call00001"),
                    call("search", {"query": "x", "filters": {"tags": ["a", "b"], "limits": [{"max": 2.5}]}}, id="call00002"),
                ],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "call00001", "name": "get_weather"},
            {"role": "tool", "content": [{"type": "text", "text": "found"}], "tool_call_id": "call00002", "name": "search"},
            {"role": "assistant", "content": "Done."},
        ],
        "tools": [WEATHER, SEARCH],
    },
    "arguments as text": {
        "messages": [
            {"role": "user", "content": "Go"},
            {"role": "assistant", "tool_calls": [call("search", '{"query": "a b"}', id="123456789")], "reasoning_content": "I search."},
            {"role": "tool", "content": "{}", "tool_call_id": "123456789"},
        ],
        "tools": [SEARCH],
    },
    "none content": {
        "messages": [
            {"role": "user", "content": "Go"},
            {"role": "assistant", "content": None, "tool_calls": [call("now", {}, id="987654321")]},
            {"role": "tool", "content": "12:00", "tool_call_id": "987654321", "name": "now"},
        ],
        "tools": [NOW_TOOL],
    },
    "documents": {
        "messages": [{"role": "user", "content": "What do they say?"}],
        "documents": [{"title": "T1", "text": "Text one.", "doc_id": 1}, {"title": "T2", "text": "Text\ntwo."}],
    },
}

VARIANTS = {
    "plain": {},
    "prompt": {"add_generation_prompt": True},
    "thinking off": {"add_generation_prompt": True, "enable_thinking": False, "reasoning_effort": "low", "date_string": "01 Jan 2025"},
    "thinking on": {"add_generation_prompt": True, "enable_thinking": True, "thinking": True, "model_identity": "You are hone."},
}
