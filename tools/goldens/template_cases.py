"""Small templates, one construct each. Every line of EXPRESSIONS is rendered as {{ … }}; TEMPLATES are rendered as they are."""

# What all of them see beside the globals.
VARIABLES = {
    "s": "Hello, World",
    "u": "naïve ﬁancée ΣΑΣ ß 你好 🙂",
    "blank": "",
    "padded": " \t two  words \n",
    "lines": "one\r\ntwo\n\nthree\x0bfour\u2028five",
    "n": 7,
    "m": -3,
    "zero": 0,
    "f": 2.5,
    "tiny": 1e-07,
    "big": 1e16,
    "t": True,
    "x": None,
    "xs": [3, 1, 2],
    "names": ["bob", "Alice", "carol", "alice"],
    "nested": [[1, "a"], [2, "b"]],
    "d": {"b": 1, "a": [1, 2.0, None], "C": {"k": "v"}, "items": "shadow"},
    "rows": [
        {"name": "q", "age": 3, "tags": ["x"], "in": {"deep": 1}},
        {"name": "P", "age": 1, "tags": []},
        {"name": "r", "age": 3, "in": {"deep": 2}},
    ],
    "huge": 123456789012345678901234567890,
    "special": "<a href='x'>\"q\" & é\u0001\u007f</a>\\\n",
}

EXPRESSIONS = r"""
1 + 2
7 - 10
3 * 4
7 / 2
6 / 3
7 // 2
-7 // 2
7 // -2
7 % 3
-7 % 3
7 % -3
7.5 // 2
-7.5 % 2
7.5 % -2
5.0 // 0.3
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
(-8) ** 2
1_000 + 0x1F + 0o17 + 0b101
1e3
1.5e-7
123456789.123456789
1e15
1e16
1e22
0.1 + 0.2
1 / 3
100000000000000000000
-100000000000000000000
9223372036854775807
huge
[huge, 1]
true + true
True and 1
true * 3
1 == 1.0
1 == true
"1" == 1
1 < 2 < 3
1 < 3 < 2
1 < 2 > 1 != 5
"a" < "b"
"a" < "B"
[1, 2] < [1, 3]
(1, 2) < (1, 2, 0)
[1] == (1,)
1 != 2
1 >= 1
n <= 7
not 1
not not ""
not n == 7
not x
"" or "dflt"
"x" and "y"
"" and "y"
0 or none or [] or "last"
none and undefined_name.foo
1 if true else 2
1 if false else 2
1 if false
(1 if false) is defined
"a" if 0 else "b" if 1 else "c"
"a" ~ 1 ~ none ~ true ~ 1.0 ~ [1]
"a" ~ missing
"a" + "b"
"ab" * 3
3 * "ab"
"ab" * 0
"ab" * -1
[1, 2] + [3]
(1,) + (2,)
[1] * 3
"a" in "abc"
"d" not in "abc"
"" in "abc"
1 in [1, 2]
1.0 in [1, 2]
"b" in d
"z" in d
3 in range(5)
3.0 in range(5)
"x" in missing
"a" in ("a", "b")
[1] in [[1]]
xs[0]
xs[-1]
xs[5]
xs[5] is defined
xs["0"] is defined
xs[1:]
xs[:-1]
xs[::-1]
xs[::2]
xs[5:]
xs[-2:]
xs[2:0:-1]
xs[true]
s[0]
s[-1]
s[1:4]
s[::-1]
s[::2]
s[-5:-1]
s[100]
s[100:]
s[3:1]
u[1:3]
u[-1]
u[::-1]
u[2]
u | length
u[6:10]
(1, 2, 3)[1:]
range(10)[2:8:3]
range(10)[3]
range(10)[-1]
d.b
d["b"]
d.C.k
d["C"]["k"]
d.items is string
d["items"]
d.nope is defined
d.nope
d.get("b")
d.get("zz")
d.get("zz", 5)
d.keys()
d.values()
d.items()
d.keys() | list
d["items"] is callable
d.items is callable
rows[0].in.deep
rows[0]["in"]
rows.0.name
nested[1][1]
{"a": 1, "b": [2]}
{1: 2, "x": none, true: "t"}
{"a": 1, "a": 2}
{}
[]
()
(1,)
1,
1, 2
[1, [2, (3,)], {"k": "v'q"}]
"it's"
'say "hi"'
["it's"]
['say "hi"']
['both \' and "']
["\n\t\\"]
[special]
[u]
["\x00\x1f\x7f\xa0\u200b"]
"\u00e9\x41\101\n|"
"\é\d\'"
"a\
b"
"abc" "def"
none
None
True
[true, false, none]
1.0
1.50
-0.0
0.00001
0.0001
123456.0
tiny
big
[tiny, big, 1e100]
"%s" % 1
"%s and %s" % ("a", 2)
"%d" % 3.7
"%5d|%-5d|%05d|%+d" % (1, 2, 3, 4)
"%x %X %o %#x" % (255, 255, 8, 255)
"%.2f %e %g" % (3.14159, 12345.678, 0.0001)
"%5.1f|%-8.3f|%08.3f" % (3.14159, 2.5, -1.5)
"%r %s" % ("a", "a")
"%(a)s-%(b)03d" % {"a": 1, "b": 2}
"%c%c" % ("x", 65)
"100%%" % ()
"%s" % [1]
"%s" % none
"%10s|%-10s|%.2s" % ("abc", "abc", "abc")
"%*d" % (5, 3)
"%d" % "x"
"%s %s" % "x"
"%s" % ("a", "b")
"{} {}".format(1, "b")
"{0}{1}{0}".format("a", "b")
"{a}-{b[0]}-{c.k}".format(a=1, b=[2], c={"k": 3})
"{:>5}|{:<5}|{:^5}|{:*^7}".format("a", "b", "c", "d")
"{:5d}|{:05d}|{:+d}|{:,}|{:x}|{:#b}".format(1, 2, 3, 1234567, 255, 5)
"{:.2f}|{:8.3f}|{:e}|{:g}|{:%}".format(3.14159, 2.5, 12345.678, 0.0001, 0.25)
"{:.3}|{:.3}|{}".format("abcdef", 123.0, 1.0)
"{!r} {!s}".format("a", "b")
"{{}} {}".format(1)
"{:{w}}|".format("x", w=4)
"{:10,}|{:_}".format(1234567, 1234567)
"{:08,}".format(1234)
"{}".format(none)
"{:>4}".format(true)
"{}".format()
"{x}".format(y=1)
"<|image_{i:d}|>{}{i}".format("a", i=3)
"{:d}{:d}".format(true, huge)
"{:d}".format("a")
"{:d}".format(1.5)
"{:d}".format(none)
"{}".format(missing)
"{}{0}".format(1)
"{0}{}".format(1)
"{2}".format(1)
"a}b".format()
"{a".format(1)
("<b>{}" | safe).format("<i>")
"%(a)s%%" % {"a": [1]}
"{a}-{b}-{c}".format(a=1, b=[2], c={"k": 3})
xs | select("gt", 1) | list
(("<b>" | safe) | string) + "<i>"
self is defined
self.block_name is defined
self.nope ~ "!"
self.nope.deeper
namespace().nope.deeper
namespace(a=1) | list
namespace(a=1) ~ "!"
raise_exception.nope.deeper
s.upper.nope.deeper
d.items().nope.deeper
[1, 2] is eq([1, 2]) and 1 is ne(2)
rows | selectattr("age", "ne", 3) | map(attribute="name") | list
"{".format(1)
s.upper()
s.lower()
s.title()
"hello wORLD it's".title()
"hELLO".capitalize()
s.swapcase()
u.upper()
u.lower()
u.title()
u.casefold()
"ŉ ǰ İ".upper() ~ "İ".lower()
"ǆ".title()
"ΑΣ ΣΑ Σ".lower()
s.split()
padded.split()
padded.split(none, 1)
padded.rsplit(none, 1)
"a,b,,c".split(",")
"a,b,,c".split(",", 1)
"a,b,,c".split(",", maxsplit=2)
"a,b,,c".rsplit(",", 1)
"a,b".split(sep=",")
"".split()
"".split(",")
"abc".split("")
lines.splitlines()
lines.splitlines(true)
"a\n".splitlines()
padded.strip()
padded.lstrip()
padded.rstrip()
"xxabcxyx".strip("xy")
"xxabcxyx".lstrip("x")
"xxabcxyx".rstrip("xyz")
"你好你".strip("你")
"\u3000 a\xa0".strip()
s.startswith("Hell")
s.startswith(("x", "He"))
s.startswith("World", 7)
s.endswith("ld")
s.endswith(("ld", "x"))
s.endswith("lo", 0, 5)
s.replace("l", "L")
s.replace("l", "L", 1)
s.replace("", "-")
"aaa".replace("aa", "b")
s.find("o")
s.find("o", 5)
s.find("zz")
u.find("好")
s.rfind("o")
s.index("W")
s.index("zz")
s.rindex("o")
s.count("l")
s.count("")
"aaaa".count("aa")
",".join(["a", "b"])
",".join("abc")
",".join([1])
"-".join(names)
"abc".isalpha()
"abc1".isalnum()
"12".isdigit()
"²".isdigit()
"½".isnumeric()
"٣".isdecimal()
"".isdigit()
" \n".isspace()
"abc".islower()
"aBc".islower()
"ABC 1".isupper()
"Hello World".istitle()
"ab1".isidentifier()
"1ab".isidentifier()
"a\n".isprintable()
"é".isascii()
"42".zfill(5)
"-42".zfill(5)
"ab".center(7, "*")
"abc".center(6, "*")
"ab".ljust(5, ".")
"ab".rjust(5)
"a\tb".expandtabs(4)
"key=value=x".partition("=")
"key=value=x".rpartition("=")
"abc".partition("=")
"TestHook".removeprefix("Test")
"MiscTests".removesuffix("Tests")
"abc".removeprefix("")
"abc".encode is callable
xs.index(2)
xs.count(1)
xs.index(9)
xs.append(1)
xs.pop()
xs.sort
d.update({"z": 1})
d.pop("b")
xs.__class__
"".__class__.__mro__
x.foo
x.foo.bar
missing
missing.foo
missing["foo"]
missing()
missing + 1
1 + missing
"a" + missing
missing == other_missing
missing == none
missing < 1
missing | length
missing | list
missing is defined
missing is undefined
d.nope.deeper
d["nope"]["deeper"]
xs[9].foo
s.nope.foo
none.foo.bar
"a" + 1
1 + "a"
[1] + (1,)
"a" * "b"
none + 1
1 / 0
1 // 0
1 % 0
1.0 / 0
-"a"
1 < "a"
none < 1
{} < {}
1 in 5
1 in "abc"
len
s()
{[1]: 2}
xs | abs
-5 | abs
5.5 | abs
m | abs
s | attr("upper") is callable
d | attr("b") is defined
d | attr("keys") is callable
xs | batch(2) | list
[1, 2, 3, 4, 5] | batch(2, "-") | list
"hELLO wORLD" | capitalize
"abc" | center(9) ~ "|"
xs | count
missing | d("x")
blank | default("x")
blank | default("x", true)
none | default("x")
none | default("x", boolean=true)
d | dictsort
d | dictsort(true)
{"b": 1, "a": 2} | dictsort(by="value")
{"b": 1, "a": 2} | dictsort(false, "value", true)
special | e
special | escape
special | e | e
special | forceescape
1000 | filesizeformat
1 | filesizeformat
123456789 | filesizeformat
123456789 | filesizeformat(true)
xs | first
[] | first is defined
s | first
d | first
"3.5" | float
"x" | float
"x" | float(1.5)
3 | float
"1e3" | float
" -inf " | float
"nan" | float
"%s-%s" | format("a", 1)
"%(a)s" | format(a=5)
rows | groupby("age")
rows | groupby("age") | map("first") | list
rows | groupby("in.deep", default=0) | map(attribute="grouper") | list
(rows | groupby("age"))[0].list | length
"a\nb\n\nc" | indent
"a\nb\n\nc" | indent(2, true)
"a\nb\n\nc" | indent(2, blank=true)
"a\r\nb" | indent("> ")
"a\n" | indent(2) ~ "|"
"42" | int
"42.9" | int
"abc" | int
"abc" | int(7)
"0x1A" | int(base=16)
"1A" | int(0, 16)
"0b11" | int(base=0)
" 12 " | int
"1_000" | int
"-5" | int
3.99 | int
-3.99 | int
true | int
none | int
"" | int
"123456789012345678901" | int
"٣" | int
d | items | list
missing | items | list
xs | join(", ")
xs | join
names | join("|")
rows | join("-", attribute="name")
[1, none, "a"] | join(",")
"abc" | join("-")
xs | last
s | last
[] | last is defined
d | last
s | length
d | length
xs | length
"abc" | list
d | list
range(3) | list
s | lower
5 | lower
rows | map(attribute="name") | list
rows | map(attribute="in.deep", default="-") | list
rows | map("length") | list
names | map("upper") | list
names | map("replace", "a", "4") | join(",")
nested | map("first") | list
nested | map("join", "-") | list
xs | map("string") | join
[1, 2] | map("nofilter") | list
xs | max
xs | min
names | max
names | min
names | min(case_sensitive=true)
rows | max(attribute="age")
[] | max is defined
xs | reject("odd") | list
xs | reject("gt", 1) | list
[0, 1, "", "a"] | reject | list
rows | rejectattr("tags") | map(attribute="name") | list
rows | rejectattr("age", "equalto", 3) | map(attribute="name") | list
xs | select("odd") | list
[0, 1, "", "a", none] | select | list
xs | select("in", [1, 2]) | list
xs | select("notest") | list
rows | selectattr("age", "gt", 2) | map(attribute="name") | list
rows | selectattr("tags", "defined") | list | length
rows | selectattr("in.deep", "equalto", 2) | map(attribute="name") | list
rows | selectattr("name", "in", ["q", "r"]) | map(attribute="age") | sum
xs | select("odd") | length
"aXbXc" | replace("X", "-")
"aXbXc" | replace("X", "-", 1)
123 | replace(2, "x")
xs | reverse | list
s | reverse
range(3) | reverse | list
d | reverse | list
2.5 | round
3.5 | round
2.675 | round(2)
2.25 | round(1)
-2.5 | round
1234.567 | round(-2)
7 | round
1250 | round(-2)
2.1 | round(method="ceil")
2.9 | round(0, "floor")
2.123 | round(2, "ceil")
2.7 | round | int
"<b>" | safe
("<b>" | safe) + "<i>"
"<i>" + ("<b>" | safe)
("<b>" | safe) ~ "<i>"
("<b>%s" | safe) % "<i>"
["<b>" | safe]
("<b>" | safe).upper()
("<b>" | safe) | tojson
("a,b" | safe).split(",")
("," | safe).join(["<", "a"])
("x" | safe) * 2
("<b>" | safe) is escaped
("<b>" | safe) | string is escaped
("<b>" | safe) == "<b>"
[1, 2, 3, 4, 5] | slice(2) | list
[1, 2, 3, 4, 5] | slice(3, "x") | list
names | sort
names | sort(case_sensitive=true)
xs | sort(reverse=true)
xs | sort
rows | sort(attribute="age") | map(attribute="name") | list
rows | sort(attribute="age,name", reverse=true) | map(attribute="name") | list
[1, "a"] | sort
nested | sort(attribute="1", reverse=true)
5 | string
[1] | string
xs | sum
rows | sum(attribute="age")
xs | sum(start=10)
nested | sum(start=[])
["a"] | sum
"foo bar-baz (qux) o'neil" | title
d | tojson
d | tojson(indent=2)
[] | tojson(indent=2)
[1, [2, {}], {"a": []}] | tojson(indent=4)
d | tojson(separators=(",", ":"))
d | tojson(indent=1, separators=(", ", " : "))
d | tojson(sort_keys=true)
special | tojson
u | tojson
u | tojson(ensure_ascii=true)
special | tojson(ensure_ascii=true)
[1.0, 1e16, 1e-7, 0.1, 100.0, -0.0] | tojson
[true, none, 1, huge] | tojson
{1: "a", 1.5: "b", none: "c", true: "d"} | tojson
(1, 2) | tojson
missing | tojson
{"a": missing} | tojson
d.keys() | tojson
"x" | tojson | safe
xs | tojson(indent=none)
xs | tojson(indent="--")
xs | tojson(indent=0)
padded | trim
"xxaxx" | trim("x")
5 | trim
"hello big world foo" | truncate(10)
"hello big world foo" | truncate(10, true)
"hello big world foo" | truncate(10, false, "…", 0)
"hello" | truncate(5)
"hello world" | truncate(3, end="")
[1, 2, 1, "a", "A"] | unique | list
["a", "A"] | unique(true) | list
rows | unique(attribute="age") | map(attribute="name") | list
s | upper
"a b/c?d=é" | urlencode
{"a b": "c/d", "e": 1} | urlencode
"one two, three-four it's" | wordcount
{"class": "a b", "id": none, "x": "<"} | xmlattr
7 is odd
7 is even
9 is divisibleby 3
9 is divisibleby(4)
n is defined
n is number
f is number
t is number
t is boolean
1 is boolean
t is integer
n is integer
f is integer
f is float
n is float
s is string
x is none
x is not none
none is none
d is mapping
xs is mapping
xs is sequence
s is sequence
d is sequence
n is sequence
range(3) is sequence
d.keys() is sequence
xs is iterable
s is iterable
n is iterable
missing is iterable
"abc" is lower
"ABC" is upper
range is callable
n is callable
1 is sameas 1
true is sameas true
1 is sameas true
t is true
1 is true
false is false
0 is false
"a" is in "abc"
5 is in xs
3 is eq 3
3 is equalto(4)
3 is ne 4
3 is lt 4
3 is le 3
3 is gt 2
3 is ge 4
3 is greaterthan 2
3 is lessthan 2
"upper" is filter
"nofilter" is filter
"odd" is test
"notest" is test
3 is not odd
3 is odd and 4 is even
n is defined and n > 3
range(5) | list
range(2, 8, 3) | list
range(5, 0, -2) | list
range(3)
range(1, 2, 3)
range(0) | list
range(100001)
range(1.5)
range(1, 2, 0)
dict(a=1, b=2)
dict({"x": 1}, y=2)
dict([("a", 1)])
dict.fromkeys(["a", "b"], 0)
namespace(a=1).a
namespace({"a": 1}).a
namespace(a=1)["a"]
namespace(a=1).nope
namespace(_a=1)
cycler(1, 2).next()
cycler()
raise_exception("boom: " ~ n)
strftime_now("%Y-%m-%d %H:%M:%S %j %a %b %d %B %A %p %y %% %f%z%Z")
strftime_now("%d %b %Y")
strftime_now("")
(1, 2) | first
[[1, 2], [3, 4]] | map(attribute=0) | list
[[1, 2], [3, 4]] | map("last") | sum
"a-b_c" | replace("-", "_") | upper | list | length
-n + 3
- 3 | abs
2 * -3
+n
n.real
f.is_integer()
7 .__class__ is defined
3 .bit_length()
1.5.is_integer()
xs is not string and d is not string
(s | upper)[0:3]
s | upper | replace("L", "1") | trim("H")
[x, t, f, n]
[1, 2, 3][1:][0]
"abc"[1] ~ "abc"[::-1]
{"a": {"b": [10, 20]}}.a.b[1]
{"a": 1}.items() | list
(d.items() | list)[0][0]
rows[1:] | map(attribute="name") | join
rows | map(attribute="name") | map("lower") | list
rows | length > 2
rows[-1].name in ["r"]
"%s" | format(none)
"\t" in padded
"x" ~ 1 + 2
1 ~ 2 * 3
2 * 3 ~ 4
not 1 in [2]
1 in [1] and true
1 == 1 in [true]
"a" "b" | upper
[1,2,][1]
{"a": 1,}.a
dict(a=1).a if true
xs[0] if xs else none
xs.0 + xs.1
xs[n - 7]
xs["length"] is defined
s["upper"]()
d["get"]("b")
d.C["k"].upper().lower() | length
u.split(" ")[-2][1]
""" .strip("\n").split("\n")

TEMPLATES = r"""
plain text
{# comment #}x
a{#- c -#}  b
a {%- if true %} b {%- endif %} c
a {%+ if true %} b {% endif +%} c
a
  {% if true %}
  b
  {% endif %}
c
=====
a
  {%+ if true %}
  b
  {%+ endif %}
c
=====
a

  {%- if true -%}

  b

  {%- endif -%}

c
=====
<{{- " x " -}}>
=====
<
  {{- 1 }}
  {{ 2 -}}
>
=====
  {# c #}
x {# c #}
y
=====
  {#- c #}

x
=====
{% raw %}{{ x }} {% if %}{% endraw %}
=====
a
  {% raw %}
  {{ x }}
  {% endraw %}
b
=====
a {%- raw -%}  {{ x }}  {%- endraw -%} b
=====
{% if 0 %}a{% elif 1 %}b{% else %}c{% endif %}
=====
{% if x %}a{% else %}{% if t %}b{% endif %}{% endif %}
=====
{% for i in xs %}{{ i }},{% endfor %}
=====
{% for i in [] %}x{% else %}empty{% endfor %}
=====
{% for i in xs %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}
=====
{% for i in xs %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }}|{% endfor %}
=====
{% for i in xs %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% endfor %}
=====
{% for i in xs %}{{ loop.cycle("a", "b") }}{% endfor %}
=====
{% for i in [1, 1, 2, 2, 1] %}{{ loop.changed(i) }} {% endfor %}
=====
{% for i in xs if i > 1 %}{{ loop.index }}:{{ i }}:{{ loop.last }}:{{ loop.length }} {% endfor %}
=====
{% for i in xs if i > 5 %}x{% else %}none{% endfor %}
=====
{% for a, b in nested %}{{ a }}={{ b }};{% endfor %}
=====
{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}
=====
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
=====
{% for k in d %}{{ k }} {% endfor %}
=====
{% for c in "aé你" %}[{{ c }}]{% endfor %}
=====
{% for a, b in xs %}{% endfor %}
=====
{% for a, b in [[1]] %}{% endfor %}
=====
{% for a, b in [[1, 2, 3]] %}{% endfor %}
=====
{% for i in n %}{% endfor %}
=====
{% for i in missing %}x{% else %}e{% endfor %}
=====
{% for i in range(10) %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}
=====
{% for i in [1] %}{% break %}{% else %}E{% endfor %}
=====
{% for i in [1, 2] %}{% continue %}{% else %}E{% endfor %}
=====
{% for i in xs %}{% for j in xs %}{% if j == i %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{% endfor %}
=====
{% for i in xs %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
=====
{% for i in [[1, [2, [3]]], [4]] recursive %}{{ loop.depth }}:{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}{% endif %}{% if not loop.last %},{% endif %}{% endfor %}
=====
{% for i in xs %}{{ loop(xs) }}{% endfor %}
=====
{% set v = 1 %}{{ v }}
=====
{% set a, b = 1, 2 %}{{ a }}{{ b }}
=====
{% set a, b = [1] %}
=====
{% set v = 1 %}{% for i in xs %}{% set v = i %}{{ v }}{% endfor %}{{ v }}
=====
{% set v = 1 %}{% if true %}{% set v = 2 %}{% endif %}{{ v }}
=====
{% for i in [1] %}{{ n }}{% set n = 5 %}{{ n }}{% endfor %}{{ n }}
=====
{% for i in [1] %}{% for j in [1] %}{{ n }}{% endfor %}{% set n = 5 %}{{ n }}{% endfor %}
=====
{% for i in xs %}{{ n }}{% endfor %}{% set n = 5 %}
=====
{% if n %}{% set n = 5 %}{% endif %}{% for i in xs %}{{ n }}{% endfor %}
=====
{% if not n %}{% set n = 5 %}{% endif %}{% for i in xs %}{{ n }}{% endfor %}
=====
{% if not n %}{% set w = 5 %}{% else %}{% set w = 6 %}{% endif %}{{ w }}
=====
{% if not n %}{% set n = 5 %}{% endif %}{{ n }}
=====
{% macro f() %}{{ n }}{% endmacro %}{{ f() }}{% set n = 5 %}{{ f() }}
=====
{% set ns = namespace(v=1) %}{% for i in xs %}{% set ns.v = ns.v + i %}{% endfor %}{{ ns.v }}
=====
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}{{ ns.c is defined }}
=====
{% set d.b = 2 %}
=====
{% set ns = namespace() %}{% set ns._x = 1 %}
=====
{% set v %}a {{ n }} b{% endset %}[{{ v }}]
=====
{% set v | upper | trim %} a {{ n }} b {% endset %}[{{ v }}]
=====
{% set v | replace("a", "b") %}aaa{% endset %}{{ v }}
=====
{% set ns = namespace() %}{% set ns.v %}x{% endset %}{{ ns.v }}
=====
{% set v %}{% set inner = 1 %}{{ inner }}{% endset %}{{ v }}{{ inner is defined }}
=====
{% macro f(a, b=2, c="x") %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ f(1) }}|{{ f(1, 3) }}|{{ f(1, c="y") }}|{{ f(c=1, a=2) }}|{{ f() }}
=====
{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}
=====
{% macro f(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ f(1, 2, 3, k=4) }}
=====
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}
=====
{% macro f(a) %}{{ a }}{% endmacro %}{{ f(b=2) }}
=====
{% macro f(a) %}{{ a.b }}{% endmacro %}{{ f() }}
=====
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
=====
{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}
=====
{% macro f() %}[{{ caller() }}]{% endmacro %}{% call f() %}body {{ n }}{% endcall %}
=====
{% macro f(xs) %}{% for x in xs %}[{{ caller(x, loop.index) }}]{% endfor %}{% endmacro %}{% call(a, b=0) f(xs) %}{{ a }}-{{ b }}{% endcall %}
=====
{% macro f() %}{{ caller is defined }}{% endmacro %}{{ f() }}
=====
{% macro f() %}{{ caller() }}{% endmacro %}{{ f() }}
=====
{% macro f() %}a{% endmacro %}{{ f }}{{ f.name }}
=====
{% macro outer() %}{% macro inner() %}i{% endmacro %}{{ inner() }}{% endmacro %}{{ outer() }}
=====
{% macro f() %}{{ v }}{% endmacro %}{% set v = 1 %}{{ f() }}{% set v = 2 %}{{ f() }}
=====
{% for i in xs %}{% macro f() %}{{ i }}{% endmacro %}{{ f() }}{% endfor %}
=====
{{ f() }}{% macro f() %}x{% endmacro %}
=====
{% filter upper %}a {{ s }}{% endfilter %}
=====
{% filter replace("a", "b") | upper %}banana{% endfilter %}
=====
{% filter upper %}{% set q = 1 %}a{% endfilter %}{{ q is defined }}
=====
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}
=====
{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q is defined }}
=====
{% with n = 1, b = n %}{{ b }}{% endwith %}
=====
{% with a, b = (1, 2) %}{{ a }}{{ b }}{% endwith %}
=====
{% block title %}T{{ n }}{% endblock %}
=====
{% print n, s %}
=====
{% generation %}hi{% endgeneration %}
=====
{% for i in xs %}{{ i }}{% generation %}<{{ i }}>{% endgeneration %}
{% endfor %}
=====
{%- generation -%}  a  {%- endgeneration -%}  b
=====
{% generation %}{% set q = 1 %}{% endgeneration %}{{ q is defined }}
=====
{% autoescape false %}{{ "<" }}{% endautoescape %}
=====
{% set j = joiner(", ") %}{% for i in xs %}{{ j() }}{{ i }}{% endfor %}
=====
{% set c = cycler("a", "b") %}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.next() }}{% set z = c.reset() %}{{ c.next() }}
=====
{% set g = xs | select("odd") %}{{ g | list }}{{ g | list }}
=====
{% set g = xs | map("string") %}{% for i in g %}{{ i }}{{ loop.last }}{% endfor %}{{ g is iterable }}
=====
{% for i in xs | reverse %}{{ i }}{{ loop.length }}{% endfor %}
=====
{% set ns = namespace(seen=[]) %}{% for i in [1, 1, 2] if i not in ns.seen %}{% set ns.seen = ns.seen + [i] %}{{ i }}{% endfor %}
=====
{{ "a"
   ~ "b" }}
=====
{{- "x" }}

=====
x

=====
x
{{ n }}

=====
{% if true -%}
   a
{%- endif %}
b
=====
{%- for i in xs %}
    {{- i }}
{%- endfor %}
=====
{% for i in xs -%}
    {{ i }}
{% endfor %}
=====
{%
  set v = [
    1,
    2
  ]
%}{{ v }}
=====
{{ {"a": {"b": 1}}}}
=====
{{ "}}" }}{{ '%}' }}
=====
{{ f(*[1, 2], **{"c": 3}) }}{% macro g(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}
=====
{% macro g(a, b, c) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ g(*[1, 2], **{"c": 3}) }}
=====
{{ s | nofilter }}
=====
{% if false %}{{ s | nofilter }}{% endif %}ok
=====
{% if true %}{{ s | nofilter }}{% endif %}ok
=====
{{ s is notest }}
=====
{% for loop in xs %}{% endfor %}
=====
{% for i in xs %}{% set loop = 1 %}{% endfor %}
=====
{% break %}
=====
{% for i in xs %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
=====
{% if %}{% endif %}
=====
{% if true %}
=====
{% endif %}
=====
{% for i in xs %}{% endif %}
=====
{% unknown %}
=====
{{ 1 + }}
=====
{{ (1 }}
=====
{{ [1, 2 }}
=====
{{ "abc }}
=====
{{ 1 2 }}
=====
{{ a.1b }}
=====
{{ }}
=====
{% set 1 = 2 %}
=====
{% set none = 2 %}
=====
{% macro f(a=1, b) %}{% endmacro %}
=====
{# unclosed
=====
{% raw %}unclosed
=====
{{ x
=====
{{ x | }}
=====
{{ x is }}
=====
{{ x is odd is even }}
=====
{{ f(a=1, 2) }}
=====
{{ $ }}
=====
{{ a ! b }}
=====
{% include "x" %}
=====
{% import "x" as y %}
=====
{% extends "x" %}
=====
{% from "x" import y %}
=====
{% block a %}{% endblock %}{% block a %}{% endblock %}
=====
line one
line two {{ missing.attribute }}
=====
line one
{% for i in xs %}
  {{ i.foo.bar }}
{% endfor %}
=====
{{ raise_exception("bad role in line " ~ 1) }}
=====
{% if s == "Hello, World" %}{{ raise_exception("no") }}{% endif %}
=====
{% set v = "a" %}{% set v = v ~ "b" %}{% set v = v ~ v %}{{ v }}
=====
{%- set a = 1 -%}
{%- set b = 2 -%}
{{ a }}{{ b }}
=====
a{% if true %}
b{% endif %}
c
=====
	{% if true %}x{% endif %}
	y
=====
{{ "x" }} {% if true %} {{ "y" }} {% endif %} z
=====
  {{ "x" }}
  {% set q = 1 %}  {{ q }}
=====
<|{{ s }}|>{% if t %}|{% endif %}{ {{ n }} } {%if t%}c{%endif%} {{n}}
=====
{}{ }{{ "{" }}{% if 1 %}{%endif%}#}{#x#}%}
=====
{% for i in xs %}
{{ i }}
{% endfor %}
=====
{% for i in xs %}  
{{ i }}
{% endfor %}  
end
=====
{% for row in rows %}{{ row.name }}:{{ row["in"].deep if row["in"] is defined else "-" }} {% endfor %}
=====
{% for g in rows | groupby("age") %}{{ g.grouper }}={{ g.list | map(attribute="name") | join("+") }};{% endfor %}
=====
{% for i in xs %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }};{% endfor %}
=====
{% set g = xs | select("gt", 1) %}{{ g | list }}{{ g | list }}
=====
{% for i in xs | select %}{{ i }}{{ loop.length }}{% endfor %}
=====
{% macro f() %}a{% endmacro %}{{ f }}
=====
{% macro f() %}a{% endmacro %}{{ f.nope.deeper }}
=====
{% for i in xs %}{{ loop.nope.deeper }}{% endfor %}
=====
{% for line in lines.split("\n") %}{{ loop.index }}{{ line | trim }}.{% endfor %}
=====
{% set content = "<think>\nreason\n</think>\n\nanswer" %}{% set reasoning = content.split("</think>")[0].rstrip("\n").split("<think>")[-1].lstrip("\n") %}[{{ reasoning }}][{{ content.split("</think>")[-1].lstrip("\n") }}]
=====
{% macro render(value) %}{% if value is mapping %}{ {%- for k, v in value | items %}{{ k }}: {{ render(v) }}{{ ", " if not loop.last }}{% endfor -%} }{% elif value is iterable and value is not string %}[{% for v in value %}{{ render(v) }}{{ "," if not loop.last }}{% endfor %}]{% else %}{{ value }}{% endif %}{% endmacro %}{{ render(d) }}
""".strip("\n")


def templates():
    """The blocks of TEMPLATES: first one template a line, then blocks between ===== lines."""
    head, *rest = TEMPLATES.split("\n=====\n")
    lines = head.split("\n")
    cut = next(i for i, line in enumerate(lines) if line == "a")
    return lines[:cut] + ["\n".join(lines[cut:])] + rest
