"""Reads C well enough for the rules of the house: clang-formatted code, no macros that hold braces."""

import dataclasses
import pathlib
import re

REPO = pathlib.Path(__file__).resolve().parents[2]

TOKENS = re.compile(
    r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:\\\n|[^\n])*", re.MULTILINE)
TRANSPARENT = re.compile(r'^(extern\s+"\s*"|(inline\s+)?namespace\b[\w\s:]*)$')
TYPE = re.compile(r"^(typedef\s+)?(struct|union|enum|class)\b[^()=]*$")


def files(*folders, ends=(".c", ".h", ".cc")):
    return sorted(p for folder in folders for p in (REPO / folder).rglob("*") if p.suffix in ends)


def name(path):
    return path.relative_to(REPO).as_posix()


def blank(text):
    """Spaces of the same shape, so that line numbers stay."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text):
    """Comments become spaces; texts and characters lose what they hold."""
    def hide(match):
        found = match.group()
        return blank(found) if found[0] == "/" else found[0] + blank(found[1:-1]) + found[-1]
    return TOKENS.sub(hide, text)


def comments(text):
    return [(text.count("\n", 0, m.start()) + 1, m.group())
            for m in TOKENS.finditer(text) if m.group()[0] == "/"]


def code(path):
    return DIRECTIVE.sub(lambda m: blank(m.group()), without_comments(path.read_text()))


def includes(path):
    """("queue/queue.h", False) or ("uv.h", True): name, whether it is a system's."""
    return [(m.group(2), m.group(1) == "<")
            for m in re.finditer(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', path.read_text(), re.M)]


@dataclasses.dataclass
class Function:
    path: str
    name: str
    line: int
    lines: int  # of the body, without its braces
    parameters: int
    nesting: int  # of blocks inside the body
    body: str


@dataclasses.dataclass
class Statement:
    text: str
    line: int


def close_of(text, start):
    """Where the brace that opens at `start` closes."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
    raise ValueError("a brace is never closed")


def deepest(body):
    depth = most = 0
    for c in body:
        depth += (c == "{") - (c == "}")
        most = max(most, depth)
    return most


def parameters(head):
    """How many there are in the last pair of parentheses of a function's head."""
    depth = 0
    for i in range(head.rindex(")"), -1, -1):
        depth += (head[i] == ")") - (head[i] == "(")
        if depth == 0:
            break
    inside = head[i + 1:head.rindex(")")]
    if inside.strip() in ("", "void"):
        return 0
    while re.search(r"\([^()]*\)", inside):
        inside = re.sub(r"\([^()]*\)", "", inside)
    return inside.count(",") + 1


def function(path, head, text, start, end):
    found = re.search(r"([\w:~]+)\s*\([^{]*$", re.sub(r"\([^()]*\)(?=[^()]*\()", "", head))
    body = text[start + 1:end]
    return Function(name(path), found.group(1) if found else "?", text.count("\n", 0, start) + 1,
                    max(body.count("\n") - 1, 1), parameters(head), deepest(body), body)


def parse(path):
    """The functions of a file, and its other statements at file scope."""
    return list(walk(path, code(path)))


def walk(path, text):
    at = begin = 0
    while at < len(text):
        head = text[begin:at].strip()
        if text[at] == ";":
            yield Statement(head, text.count("\n", 0, at) + 1)
            begin = at + 1
        elif text[at] == "}":
            begin = at + 1  # of a transparent block
        elif text[at] == "{" and TRANSPARENT.match(head):
            begin = at + 1
        elif text[at] == "{":
            end = close_of(text, at)
            if head.endswith(")") and "=" not in head and not TYPE.match(head):
                yield function(path, head, text, at, end)
                begin = end + 1
            at = end
        at += 1


def functions(*folders):
    return [f for p in files(*folders, ends=(".c", ".cc")) for f in parse(p)
            if isinstance(f, Function)]


FUNCTION_TYPE = re.compile(r"^\s*typedef\s[^;(]*?(\w+)\s*\([^;]*\)\s*;", re.M)


def function_types(*folders):
    """Names made by typedef for functions: `name a, b;` declares functions, not objects."""
    return {m.group(1) for p in files(*folders) for m in FUNCTION_TYPE.finditer(code(p))}


def without_braces(text):
    while re.search(r"\{[^{}]*\}", text):
        text = re.sub(r"\{[^{}]*\}", "\0", text)
    return text.replace("\0", "{}")


def is_mutable(declaration, known_function_types=()):
    """Whether it makes an object that outlives a call and can be changed."""
    head = without_braces(declaration).split("=")[0].strip()
    words = re.findall(r"\w+|\S", re.sub(r"\b(static|inline)\b", "", head))
    if not words or words[0] in ("typedef", "extern", "_Static_assert", "static_assert", "using"):
        return False
    if words[0] in known_function_types:
        return False
    if re.match(r"(struct|union|enum|class)\b\s*\w*\s*(\{ \})?$", " ".join(words)):
        return False  # a type
    pointer = re.match(r"[^(]*\(\s*\*\s*(const\b)?", head)
    if pointer:
        return pointer.group(1) is None  # to a function
    if "(" in head and "=" not in declaration:
        return False  # a prototype, or a macro that makes some
    if "*" in head:
        return not re.match(r"\s*const\b", head[head.rindex("*") + 1:])
    return not re.search(r"\b(const|constexpr)\b", head)


def inner_statics(function):
    for m in re.finditer(r"\b(static|_Thread_local|thread_local)\b", function.body):
        end = start = m.start()
        while function.body[end] != ";":
            end = close_of(function.body, end) if function.body[end] == "{" else end
            end += 1
        yield Statement(function.body[start:end], function.line + function.body.count("\n", 0, start))


def mutable_objects(path, known_function_types=()):
    """(line, declaration) of each."""
    for part in parse(path):
        statements = [part] if isinstance(part, Statement) else inner_statics(part)
        for s in statements:
            if is_mutable(s.text, known_function_types):
                yield s.line, " ".join(s.text.split())[:90]
