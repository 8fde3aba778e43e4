"""The rules of the house (ARCHITECTURE.md): where arrows may point, who may call what, how large things may grow."""

import os
import re
import shutil
import statistics
import subprocess

import csource
from csource import REPO, name

WEIR = os.path.abspath(os.environ.get("WEIR", REPO / "build" / "weir"))
CONTRACTS = {"queue/queue.h", "queue/consumer.h", "dedup/dedup.h", "sink/sink.h", "history/history.h"}
COMPOSITION = {"src/app.c", "src/app.h"}

# What a room may include beyond lib, the core (event, batch, config, stats, json) and itself.
ARROWS = {
    "lib": set(),
    "core": set(),
    "api": {"queue/queue.h", "history/history.h"},
    "queue": {"store", "amqp"},
    "dedup": {"store"},
    "sink": {"store", "postgres"},
    "history": {"store", "postgres"},
    "store": CONTRACTS,
    "amqp": set(),
    "postgres": {"history/history.h"},
    "worker": {"queue/consumer.h", "dedup/dedup.h", "sink/sink.h"},
    "app": {"api", "worker", "queue", "dedup", "sink", "history", "store"},
    "cmd": {"app", "postgres/postgres.h"},
    "main": {"cmd"},
}

# What lies under several rooms: which of their files may use it.
BASEMENTS = {
    "store": r"(_local|/spool)\.c$|^src/app\.c$",
    "amqp": r"^src/queue/\w+_amqp(_\w+)?\.[ch]$",
    "postgres": r"(_postgres|^src/cmd/migrate)\.c$",
}

# Made at build time.
GENERATED = {"openapi_text.h"}

# A library's header: where it may be included.
LIBRARIES = {
    r"^sqlite3\.h$": r"^src/store/",
    r"^uv(/|\.h$)": r"^src/(api/|cmd/bench)",
    r"^curl/": r"^src/cmd/client\.c$",
    r"^simdjson": r"^src/json\.cc$",
    r"^openssl/": r"^src/(store|api|amqp|dedup|postgres)/",
    r"^amqp(_\w+)?\.h$": r"^src/amqp/",
    r"^(hiredis/|hiredis\.h$)": r"^src/dedup/redis_",
    r"^(libpq-fe|libpq-events|pg_config\w*|postgres_ext)\.h$": r"^src/postgres/",
    r"^threads\.h$": r"^$",
}

LOCKS = re.compile(r"\b(pthread_(mutex|cond|rwlock|spin)\w*|mtx_\w+|cnd_\w+)\b")
MAY_LOCK = {"lib/mailbox.c", "lib/log.c"}

IMPURE = re.compile(
    r"(?<![\w.>])(time|gettimeofday|clock_gettime|localtime\w*|s?rand\w*|l?rand48|getrandom"
    r"|(secure_)?getenv|u?sleep|nanosleep|clock_nanosleep|exit)\s*\(")
MAY_BE_IMPURE = {"lib/clock.c", "lib/env.c", "lib/mailbox.c"}  # the mailbox waits with a deadline

UNBOUNDED = re.compile(r"(?<![\w.>])(strcpy|strcat|v?sprintf|gets|alloca|atoi|atol|atoll)\s*\(")

# Objects that outlive a call and change: only what a signal handler must reach.
MAY_CHANGE = re.compile(r"^static volatile sig_atomic_t \w+( = 0)?;?$")

LINES_OF_FILE = 500
LINES_OF_HEADER = 150
LINES_OF_TEST = 1000
LINES_OF_MAIN = 60
LINES_OF_FUNCTION = 80
LINES_OF_MEDIAN = 15
SETTINGS = 40


def sources():
    return csource.files("src", "lib")


def fail_with(problems):
    assert not problems, "\n" + "\n".join(problems)


def room(path):
    """Of a file, as "src/api/route.h"."""
    parts = path.split("/")
    if parts[0] == "lib":
        return "lib"
    if len(parts) == 3:
        return parts[1]
    if path in COMPOSITION:
        return "app"
    return "main" if path == "src/main.c" else "core"


def home(header):
    """The file that an include names, seen from src/ and lib/; None when there is none."""
    for folder in ("src", "lib"):
        if (REPO / folder / header).is_file():
            return f"{folder}/{header}"
    return None


def may_include(path, header):
    here, there = room(path), room(home(header))
    if there == "lib" or here == "lib":
        return there == "lib"
    if path.removeprefix("src/") in CONTRACTS:
        return there == "core" or header in CONTRACTS  # what passes from room to room
    if there in (here, "core"):
        return True
    if there in BASEMENTS and re.search(BASEMENTS[there], path) is None:
        return False
    return header in ARROWS[here] or there in ARROWS[here]


def test_arrows_point_down_only():
    problems = []
    for path in sources():
        for header, is_system in csource.includes(path):
            if is_system or header in GENERATED:
                continue
            if home(header) is None:
                problems.append(f"{name(path)}: includes \"{header}\", which is not in src/ or lib/")
            elif not may_include(name(path), header):
                problems.append(f"{name(path)} must not include {header}")
    fail_with(problems)


def library_problem(path, header):
    for library, rooms in LIBRARIES.items():
        if re.search(library, header) and not re.search(rooms, path):
            return f"{path} must not include <{header}>: only {rooms} may"
    return None


def test_each_library_is_seen_by_its_room_only():
    fail_with([problem for path in sources() for header, _ in csource.includes(path)
               if (problem := library_problem(name(path), header)) is not None])


def test_every_file_includes_its_own_header_first():
    problems = []
    for path in sources():
        own = path.with_suffix(".h")
        if path.suffix == ".h" or not own.is_file():
            continue
        first = next(iter(csource.includes(path)), ("nothing", False))[0]
        if home(first) != name(own):
            problems.append(f"{name(path)}: the first include is {first}, not its own header")
    fail_with(problems)


def found(pattern, exempt):
    problems = []
    for path in sources():
        if exempt(name(path)):
            continue
        for number, line in enumerate(csource.code(path).split("\n"), 1):
            for match in pattern.finditer(line):
                problems.append(f"{name(path)}:{number}: {match.group().strip(' (')}")
    return problems


def test_only_the_mailbox_and_the_log_lock():
    fail_with(found(LOCKS, lambda path: path in MAY_LOCK))


def test_clocks_chance_and_the_environment_come_from_env_alone():
    fail_with(found(IMPURE, lambda path: path in MAY_BE_IMPURE or room(path) in ("app", "cmd", "main")))


def test_nothing_writes_without_a_bound():
    fail_with(found(UNBOUNDED, lambda path: False))


def test_nothing_that_changes_is_global():
    problems = []
    functions = csource.function_types("src", "lib")
    for path in sources():
        for line, declaration in csource.mutable_objects(path, functions):
            if not MAY_CHANGE.match(declaration):
                problems.append(f"{name(path)}:{line}: {declaration}")
    fail_with(problems)


def test_files_stay_small():
    problems = []
    for path in csource.files("src", "lib", "bench", "tests", ends=(".c", ".h", ".cc", ".py")):
        lines = path.read_text().count("\n")
        most = LINES_OF_HEADER if path.suffix == ".h" else LINES_OF_FILE
        most = LINES_OF_TEST if name(path).startswith("tests/") else most
        if lines > most:
            problems.append(f"{name(path)} has {lines} lines; expected at most {most}")
    main = (REPO / "src/main.c").read_text().count("\n")
    if main > LINES_OF_MAIN:
        problems.append(f"src/main.c has {main} lines; expected at most {LINES_OF_MAIN}")
    fail_with(problems)


def test_functions_stay_small(capsys):
    functions = csource.functions("src", "lib")
    sizes = sorted(f.lines for f in functions)
    median = statistics.median(sizes)
    with capsys.disabled():
        print(f"\n{len(sizes)} functions: median {median:g} lines, p90 {sizes[len(sizes) * 9 // 10]}, "
              f"max {sizes[-1]}; {sum(f.parameters > 5 for f in functions)} take more than 5 parameters, "
              f"{sum(f.nesting > 3 for f in functions)} nest deeper than 3")
    problems = [f"{f.path}:{f.line}: {f.name} has {f.lines} lines; expected at most {LINES_OF_FUNCTION}"
                for f in functions if f.lines > LINES_OF_FUNCTION]
    if median > LINES_OF_MEDIAN:
        problems.append(f"the median is {median}; expected at most {LINES_OF_MEDIAN}")
    fail_with(problems)


def test_what_is_left_to_do_has_an_issue():
    problems = []
    for path in csource.files("src", "lib", "bench", "tests"):
        for line, text in csource.comments(path.read_text()):
            if re.search(r"\b(TODO|FIXME|XXX|BUG:)(?![\w:( ]*#\d)", text):
                problems.append(f"{name(path)}:{line}: {text[:60]}")
    fail_with(problems)


def built():
    """The sources that the build lists."""
    for folder in ("", "src"):
        text = (REPO / folder / "meson.build").read_text()
        for listed in re.findall(r"'([^'@]+\.(?:c|cc))'", text):
            yield os.path.relpath(REPO / folder / listed, REPO)


def test_every_source_is_built():
    listed = set(built())
    there = {name(p) for p in csource.files("src", "lib", ends=(".c", ".cc"))}
    fail_with([f"src/meson.build does not list {p}" for p in sorted(there - listed)]
              + [f"meson.build lists {p}, which is not there" for p in sorted(listed - there)])


def setting_keys():
    table = (REPO / "src/config_table.h").read_text()
    return re.findall(r'^\s*X\(\w+, \w+, "([^"]+)"', table, re.M)


def test_settings_stay_few_and_documented():
    keys = setting_keys()
    page = (REPO / "docs/settings.md").read_text()
    assert 0 < len(keys) < SETTINGS
    fail_with([f"docs/settings.md does not name {key}" for key in keys if f"`{key}`" not in page])


def test_generated_documents_are_what_the_binary_prints():
    assert os.access(WEIR, os.X_OK), f"{WEIR} is not there: build it, or name it by WEIR=…"
    done = subprocess.run([REPO / "tests/house/docs.sh"], env={**os.environ, "WEIR": WEIR},
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


def test_code_is_as_clang_format_writes_it():
    formatter = shutil.which("clang-format")
    assert formatter, "clang-format is not installed; ./dev test installs it"
    paths = csource.files("src", "lib", "bench", "tests")
    done = subprocess.run([formatter, "--dry-run", "-Werror", *paths], capture_output=True, text=True)
    lines = [line for line in done.stderr.split("\n") if "error:" in line]
    assert done.returncode == 0, "./dev fmt changes:\n" + "\n".join(lines[:20])
