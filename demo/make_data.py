"""Makes the demo's files: chat rows that ask for files in plain English, and a tokenizer trained on them.

Deterministic: the same script writes the same bytes on any machine, for it carries its own random numbers.
Running the demo needs neither this script nor Python. `--check` tells whether the files are still its output.
    python3 demo/make_data.py [--check] [--rows-only]
Standard library only, and the `tokenizers` package for the tokenizer (--rows-only does without).
"""

import argparse
import hashlib
import json
import pathlib
import re
import sys
from collections import Counter

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20
ROWS = {"train": 6000, "valid": 160, "test": 160}
HELD_OUT_PERCENT = {"test": 8, "valid": 8}  # of all commands, by hash; the rest may be trained on
FOLLOW_UP = 0.3  # of the rows that search: chance of a second question about the first answer
VOCAB_SIZE = 768  # special tokens included
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
# The pre-tokeniser of the Qwen family: words with their leading space, single digits, runs of punctuation.
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")

# ---- The parts of a question. Left: what the command says; right: the ways to ask for it. ------------------

KINDS = {
    "*.py": ["Python files", "Python scripts", "Python sources"],
    "*.cpp": ["C++ files", "C++ sources"],
    "*.h": ["headers", "header files"],
    "*.sh": ["shell scripts", "bash scripts"],
    "*.md": ["notes", "Markdown files", "Markdown pages"],
    "*.log": ["logs", "log files"],
    "*.json": ["JSON files", "JSON documents"],
    "*.yaml": ["YAML files", "recipes"],
    "*.csv": ["CSV files", "tables"],
    "*.pdf": ["PDFs", "PDF files", "papers"],
    "*.jpg": ["photos", "JPEG pictures"],
    "*.png": ["screenshots", "PNG images"],
    "*.mp4": ["videos", "movies"],
    "*.zip": ["zip files", "zip archives"],
    "*.safetensors": ["checkpoints", "weight files"],
}
ANY_KIND = ["files", "regular files"]
TEXT_KINDS = ["*.py", "*.cpp", "*.h", "*.sh", "*.md", "*.log", "*.json", "*.yaml", "*.csv"]

PLACES = {
    ".": ["here", "in this folder", "in the current directory"],
    "~": ["in my home", "in my home directory", "in ~"],
    "~/Downloads": ["in my downloads", "among the downloads", "in ~/Downloads"],
    "~/Documents": ["in my documents", "in ~/Documents"],
    "~/Pictures": ["in my pictures folder", "in ~/Pictures"],
    "~/project": ["in the project", "in my project", "in ~/project"],
    "src": ["in src", "in the source tree", "under src"],
    "docs": ["in docs", "in the docs folder", "under docs"],
    "build": ["in build", "in the build folder", "under build"],
    "runs": ["in runs", "in the runs folder", "under runs"],
    "/etc": ["in /etc", "under /etc"],
    "/var/log": ["in /var/log", "under /var/log"],
    "/srv/data": ["in /srv/data", "on the data server"],
    "/usr/share": ["in /usr/share", "under /usr/share"],
}
TARGETS = {  # places that something can be moved, copied or unpacked to
    "~/Desktop": ["to my desktop", "to ~/Desktop"],
    "~/shared": ["to the shared folder", "to ~/shared"],
    "/tmp": ["to /tmp", "to the temporary folder"],
    "/mnt/backup": ["to /mnt/backup", "to the backup", "to the backup disk"],
    "/media/usb": ["to /media/usb", "to the USB stick"],
}
SIZES = [4, 8, 10, 16, 32, 64, 100, 256, 512]
UNITS = {"k": ["KB", "kilobytes"], "M": ["MB", "megabytes"], "G": ["GB", "gigabytes", "gigs"]}
BIGGER = ["bigger than", "larger than", "over", "of more than"]
SMALLER = ["smaller than", "under", "below", "of less than"]
DAYS = {
    "1": ["a day", "one day", "24 hours"], "2": ["two days", "2 days"],
    "3": ["three days", "3 days"], "5": ["five days", "5 days"], "7": ["a week", "one week", "7 days"],
    "14": ["two weeks", "a fortnight", "14 days"], "30": ["a month", "30 days"],
    "90": ["three months", "90 days"], "180": ["half a year", "180 days"], "365": ["a year", "365 days"],
}
OLDER = ["older than", "untouched for", "unchanged for", "last changed more than"]  # the last one takes "ago"
NEWER = ["changed within", "modified within", "younger than", "changed less than"]
WORDS = ["timeout", "error", "warning", "password", "license", "budget", "learning rate", "router", "expert",
         "gradient", "tokenizer", "include", "out of memory", "permission denied"]
NUMBERS = {"1": ["one"], "2": ["two", "2"], "3": ["three", "3"], "4": ["four", "4"], "5": ["five", "5"],
           "6": ["six", "6"], "8": ["eight", "8"], "10": ["ten", "10"], "12": ["twelve", "12"],
           "20": ["twenty", "20"]}
ARCHIVES = ["music", "photos", "thesis", "release", "dataset", "model", "website", "letters", "taxes",
            "results"]

ASK = {
    "list": ["show me {}", "list {}", "find {}", "where are {}", "look for {}", "I am looking for {}",
             "give me {}", "which {} are there", "can you find {}", "I need {}", "are there {}"],
    "count": ["how many {} are there", "count {}", "tell me how many {} I have", "how many {} do I have",
              "the number of {}", "I want to know how many {} there are"],
    "delete": ["delete {}", "remove {}", "get rid of {}", "throw away {}", "wipe {}",
               "I do not need {} any more"],
    "ls": ["show the details of {}", "list {} with size and date", "a long listing of {}", "details of {}",
           "list {} in full"],
    "move": ["move {}", "put {}", "bring {}", "please move {}"],
    "copy": ["copy {}", "make a copy of {}", "duplicate {}"],
}
QUESTION_STARTS = ("where", "which", "can", "are", "how", "what")
STATEMENT_STARTS = ("I ", "a ", "the ", "details")  # no "please" before these
TAILS = {"list": "", "count": " | wc -l", "delete": " -delete", "ls": " -ls",
         "move": " -exec mv -t {} {{}} +", "copy": " -exec cp -t {} {{}} +"}


class Rng:
    """SplitMix64: small, and the same everywhere, unlike a library's generator over the years."""

    def __init__(self, seed):
        self.state = seed & (2**64 - 1)

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        return (z ^ (z >> 31)) * n >> 64

    def chance(self, p):
        return self.below(1_000_000) < p * 1_000_000

    def pick(self, items):
        items = list(items)
        return items[self.below(len(items))]

    def pick_weighted(self, weights):
        at = self.below(sum(weights.values()))
        for item, weight in weights.items():
            at -= weight
            if at < 0:
                return item
        raise AssertionError

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


# ---- From parts to a question and its command --------------------------------------------------------------

def say_size(rng, size):
    sign, number, unit = size
    words = rng.pick(BIGGER if sign == "+" else SMALLER)
    return f"{words} {number} {rng.pick(UNITS[unit])}"


def say_age(rng, age):
    sign, days = age
    words, span = rng.pick(OLDER if sign == "+" else NEWER), rng.pick(DAYS[days])
    if words.startswith(("last changed", "changed less")):
        return f"{words} {span} ago"
    return f"{words} {span}"


def draw_size(rng):
    return rng.pick("+-"), rng.pick(SIZES), rng.pick(UNITS)


def draw_age(rng):
    return rng.pick("+-"), rng.pick(DAYS)


def draw_query(rng):
    """A set of files: kind or none, place, and up to two of size, age and emptiness."""
    query = {"kind": None, "place": rng.pick(PLACES), "size": None, "age": None, "empty": False}
    if rng.chance(0.8):
        query["kind"] = rng.pick(KINDS)
    limits = rng.pick_weighted({"": 2, "size": 5, "age": 5, "both": 4, "empty": 1, "empty age": 1})
    if limits in ("size", "both"):
        query["size"] = draw_size(rng)
    if limits in ("age", "both", "empty age"):
        query["age"] = draw_age(rng)
    query["empty"] = limits.startswith("empty")
    return query


def find_command(query, action="list", target=None):
    parts = ["find", query["place"], "-type f"]
    if query["kind"]:
        parts.append(f"-name '{query['kind']}'")
    if query["empty"]:
        parts.append("-empty")
    if query["size"]:
        sign, number, unit = query["size"]
        parts.append(f"-size {sign}{number}{unit}")
    if query["age"]:
        sign, days = query["age"]
        parts.append(f"-mtime {sign}{days}")
    return " ".join(parts) + TAILS[action].format(target)


def say_query(rng, query):
    """The noun phrase: adjective, kind, then place and limits in any order."""
    noun = rng.pick(KINDS[query["kind"]] if query["kind"] else ANY_KIND)
    if query["empty"]:
        noun = "empty " + noun
    limits = [say_size(rng, query["size"])] if query["size"] else []
    limits += [say_age(rng, query["age"])] if query["age"] else []
    rng.shuffle(limits)
    clause = rng.pick([" and ", " ", ", "]).join(limits)
    place = rng.pick(PLACES[query["place"]])
    if clause and rng.chance(0.4):
        return f"{noun} {clause} {place}"
    return f"{noun} {place} {clause}".strip()


def finish(rng, text):
    """Casing, courtesy and the closing mark."""
    asks = text.startswith(QUESTION_STARTS)
    if rng.chance(0.12):
        if asks or text.startswith(STATEMENT_STARTS):
            text += ", please"
        elif not text.startswith("please"):
            text = "please " + text
    elif rng.chance(0.06):
        text = rng.pick(["hi, ", "hello, ", "ok, ", "now "]) + text
    if rng.chance(0.7):
        text = text[0].upper() + text[1:]
    if asks:
        return text + rng.pick(["?", "?", "?", ""])
    return text + rng.pick(["", "", ".", "."])


def make_find(rng):
    query = draw_query(rng)
    action = rng.pick_weighted({"list": 5, "count": 3, "delete": 2, "ls": 2, "move": 3, "copy": 3})
    target, text = None, rng.pick(ASK[action])
    the = "the " if action in ("list", "delete", "ls", "move", "copy") and rng.chance(0.4) else ""
    if text.startswith(("which", "are there")):
        the = ""
    text = text.format(the + say_query(rng, query))
    if action in ("move", "copy"):
        target = rng.pick(TARGETS)
        text += " " + rng.pick(TARGETS[target])
    return finish(rng, text), find_command(query, action, target), (query, action)


def make_grep(rng):
    kind, place, word = rng.pick(TEXT_KINDS), rng.pick(PLACES), rng.pick(WORDS)
    noun, where = rng.pick(KINDS[kind]), rng.pick(PLACES[place])
    quoted = f'"{word}"'
    flags, text = rng.pick_weighted({
        ("-rl", f"which {noun} {where} mention {quoted}"): 2,
        ("-rl", f"find the {noun} {where} that contain {quoted}"): 2,
        ("-rn", f"show the lines with {quoted} in the {noun} {where}"): 2,
        ("-rn", f"show me every {quoted} in the {noun} {where}"): 2,
        ("-rL", f"which {noun} {where} do not mention {quoted}"): 1,
        ("-rL", f"find the {noun} {where} without {quoted}"): 1,
    })
    if rng.chance(0.25):
        text, flags = text + ", " + rng.pick(["in any case", "ignoring case"]), flags + "i"
    return finish(rng, text), f"grep {flags} --include='{kind}' '{word}' {place}", None


def make_top(rng):
    place, number = rng.pick(PLACES), rng.pick(NUMBERS)
    flags, adjective = rng.pick([("-S", "largest"), ("-S", "biggest"), ("-t", "newest"), ("-t", "latest"),
                                 ("-Sr", "smallest"), ("-tr", "oldest")])
    kind = rng.pick(KINDS)
    amount = "" if number == "1" else rng.pick(NUMBERS[number]) + " "
    noun, where = rng.pick(KINDS[kind]), rng.pick(PLACES[place])
    if number == "1":
        text = f"{rng.pick(['show me', 'what is', 'find'])} the very {adjective} of the {noun} {where}"
    else:
        text = f"{rng.pick(['show me', 'what are', 'list', 'find'])} the {amount}{adjective} {noun} {where}"
    return finish(rng, text), f"ls {flags} {place}/{kind} | head -n {number}", None


def make_archive(rng):
    place, name = rng.pick(PLACES), rng.pick(ARCHIVES)
    file = f"{name}.tar.gz"
    if rng.chance(0.5):
        text = rng.pick(["pack everything {} into {}", "make an archive {1} of everything {0}",
                         "compress what is {} into {}", "archive all that is {} as {}"])
        return finish(rng, text.format(rng.pick(PLACES[place]), file)), f"tar -czf {file} {place}", None
    target = rng.pick(TARGETS)
    where = rng.pick(TARGETS[target])
    text = rng.pick(["unpack {} {}", "extract {} {}", "restore {} {}"]).format(file, where)
    return finish(rng, text), f"tar -xzf {file} -C {target}", None


def follow_up(rng, query, action):
    """A second question that narrows, moves or acts on the first answer; None where nothing fits."""
    if action in ("move", "copy"):
        return None
    new, then = dict(query), action
    choices = {"place": 1, "kind": 1}
    if action == "list":
        choices = {"count": 2, "delete": 1, "ls": 1, "place": 2, "kind": 2}
    if not query["size"] and not query["empty"]:
        choices["size"] = 2
    if not query["age"]:
        choices["age"] = 2
    what = rng.pick_weighted(choices)
    only = rng.pick(["only the ones {}", "just those {}", "only those {}, please", "I meant the ones {}"])
    if what == "size":
        new["size"] = draw_size(rng)
        text = only.format(say_size(rng, new["size"]))
    elif what == "age":
        new["age"] = draw_age(rng)
        text = only.format(say_age(rng, new["age"]))
    elif what == "place":
        new["place"] = rng.pick([p for p in PLACES if p != query["place"]])
        text = rng.pick(["and {}", "the same {}", "now {}", "and what about those {}"])
        text = text.format(rng.pick(PLACES[new["place"]]))
    elif what == "kind":
        new["kind"] = rng.pick([k for k in KINDS if k != query["kind"]])
        text = rng.pick(["and the {}", "the same for {}", "now the {}", "and what about {}"])
        text = text.format(rng.pick(KINDS[new["kind"]]))
    else:
        then = what
        text = rng.pick({"count": ["how many are there", "how many are these", "count them"],
                         "delete": ["delete them", "remove all of them", "get rid of them"],
                         "ls": ["show their details", "with size and date", "list them in full"]}[what])
    text = text[0].upper() + text[1:] if rng.chance(0.7) else text
    mark = "?" if text.lower().startswith(("how", "and ")) else rng.pick(["", "."])
    return text + mark, find_command(new, then)


def make_row(rng):
    maker = rng.pick_weighted({make_find: 14, make_grep: 2, make_top: 3, make_archive: 1})
    question, command, state = maker(rng)
    turns = [(question, command)]
    if state and rng.chance(FOLLOW_UP):
        second = follow_up(rng, *state)
        if second:
            turns.append(second)
    return turns


# ---- Splits, and the proof that they are apart -------------------------------------------------------------

def split_of(command):
    """Which split a command belongs to: its hash decides, so no command is ever on both sides."""
    bucket = int.from_bytes(hashlib.sha256(command.encode()).digest()[:8], "big") % 100
    for name, percent in HELD_OUT_PERCENT.items():
        if bucket < percent:
            return name
        bucket -= percent
    return "train"


def normal(text):
    return re.sub(r"\W+", " ", text.casefold()).strip()


def make_rows():
    """Train rows hold only train commands, in every turn. Held-out rows ask, in every turn, what no train row
    asks, and end in a command of their own split, put together from words that the train commands have."""
    rng, seen, questions, words = Rng(SEED), set(), set(), set()
    rows = {name: [] for name in ROWS}

    def fill(names, fits):
        while any(len(rows[name]) < ROWS[name] for name in names):
            turns = make_row(rng)
            name = split_of(turns[-1][1])
            key = tuple(normal(question) for question, _ in turns)
            if name in names and len(rows[name]) < ROWS[name] and key not in seen and fits(turns):
                seen.add(key)
                rows[name].append(turns)

    fill(["train"], lambda turns: all(split_of(command) == "train" for _, command in turns))
    for question, command in (turn for turns in rows["train"] for turn in turns):
        questions.add(normal(question))
        words.update(command.split())
    fill(["valid", "test"], lambda turns: set(turns[-1][1].split()) <= words
         and not questions & {normal(question) for question, _ in turns})
    return rows


def words_apart(a, b):
    """Edit distance in words."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def nearest(command, others):
    """The distance to the nearest of the others, by trying those with the most words in common first."""
    words, best = command.split(), len(command)
    floors = [(max(len(words), len(o)) - (Counter(words) & Counter(o)).total(), o) for o in others]
    for floor, other in sorted(floors):
        if floor >= best:
            break
        best = min(best, words_apart(words, other))
    return best


def report_overlap(rows):
    """Asserts that held-out rows are new, and says how near to the training rows they come."""
    questions = {normal(q) for turns in rows["train"] for q, _ in turns}
    commands = {c for turns in rows["train"] for _, c in turns}
    split_commands = [c.split() for c in sorted(commands)]
    words = {word for command in split_commands for word in command}
    print(f"train: {len(rows['train'])} rows, {sum(len(t) for t in rows['train'])} answers, {len(commands)} "
          f"distinct commands, {len(questions)} distinct questions")
    for name in ("valid", "test"):
        asked = [normal(question) for turns in rows[name] for question, _ in turns]
        finals = [turns[-1][1] for turns in rows[name]]
        assert not questions & set(asked), "a held-out question is in train"
        assert not commands & set(finals), "a held-out command is in train"
        assert {word for command in finals for word in command.split()} <= words, "a word is unknown to train"
        near = Counter(nearest(command, split_commands) for command in finals)
        distances = ", ".join(f"{n} in {near[n]} rows" for n in sorted(near))
        print(f"{name}: {len(finals)} rows, {len(set(finals))} distinct commands, {len(asked) - len(finals)} "
              f"rows with a follow-up; in train: 0 of its questions, 0 of its commands; words between "
              f"a command and the nearest in train: {distances}")


def to_json(turns):
    messages = []
    for question, command in turns:
        messages.append({"role": "user", "content": question})
        messages.append({"role": "assistant", "content": command})
    return json.dumps({"messages": messages}, ensure_ascii=False)


# ---- The tokenizer -----------------------------------------------------------------------------------------

def train_tokenizer(rows):
    """Byte-level BPE with Qwen's pipeline, its special tokens after the learnt vocabulary."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, trainers
    from tokenizers import pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=VOCAB_SIZE - len(SPECIALS), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = [text for turns in rows["train"] for turn in turns for text in turn]
    tokenizer.train_from_iterator(texts + ["system\n", "user\n", "assistant\n"] * 1000, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, "the text is too small for the vocabulary"
    return tokenizer.to_str(pretty=True) + "\n"


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file differs")
    parser.add_argument("--rows-only", action="store_true", help="leave the tokenizer alone")
    args = parser.parse_args()
    rows = make_rows()
    report_overlap(rows)
    files = {f"data/{name}.jsonl": "".join(to_json(t) + "\n" for t in rows[name]) for name in ROWS}
    if not args.rows_only:
        files["model/tokenizer.json"] = train_tokenizer(rows)
    if args.check:
        stale = [n for n, text in files.items() if (HERE / n).read_text(encoding="utf-8") != text]
        print("differs: " + ", ".join(stale) if stale else "the committed files are this script's output")
        return 1 if stale else 0
    write(HERE, files)
    print("bytes: " + ", ".join(f"{name} {len(text.encode()):,}" for name, text in files.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
