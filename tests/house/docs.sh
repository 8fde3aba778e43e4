#!/bin/sh
# The documents that come from the table of settings: weir.conf.example, docs/settings.md, docs/weir.1, and README.md between
# <!-- settings --> and <!-- /settings -->. docs.sh compares them with what the binary prints; docs.sh --write writes them.
set -eu
cd "$(dirname "$0")/../.."
weir=${WEIR:-build/weir}
write=
case ${1:-} in
    '') ;;
    --write) write=yes ;;
    *)
        echo "usage: tests/house/docs.sh [--write]" >&2
        exit 2
        ;;
esac
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
differ=0

# keep NAME: $folder/new is what NAME has to be
keep() {
    if [ -n "$write" ]; then
        cmp -s "$folder/new" "$1" || cp "$folder/new" "$1"
    elif [ ! -f "$1" ]; then
        echo "$1 is not there; ./dev docs writes it" >&2
        differ=1
    elif ! diff -u "$1" "$folder/new"; then
        echo "$1 differs from what $weir prints; ./dev docs writes it again" >&2
        differ=1
    fi
}

settings_page() {
    cat <<'END'
# Settings

<!-- generated from src/config_table.h by ./dev docs -->

A setting is a flag, a variable of the environment or a line of the file. `http.max_body` below is the flag `--http-max-body 8MiB`, the
variable `WEIR_HTTP_MAX_BODY=8MiB`, or the line `http.max_body = 8MiB`. A flag wins over a variable, a variable over the file, the file over
the default. The file is the one that `--config FILE` (or `WEIR_CONFIG=FILE`) names, otherwise `weir.conf` in the working folder if there is
one; [weir.conf.example](../weir.conf.example) has every key. In it, `#` at the start of a line or after a space begins a comment.

`weir check` prints the configuration in effect and where each value comes from, or every error at once. A name that is no setting is an
error, in the file, among the flags, and for variables that start with `WEIR_` (those that Kubernetes makes for services excepted).

Sizes are written `512B`, `64KiB`, `4MiB`, `1GiB`; times `50ms`, `10s`, `5m`, `1h`, `30d`.

END
    "$weir" help markdown
    cat <<'END'

Between values:

- `event.max_bytes` is at most `http.max_body`: an event must fit into a request.
- `http.max_body` is at most `queue.mailbox_bytes` and at most `http.max_inflight`: a request must fit into one commit and into memory.
- `sink = log` needs `worker.threads = 1` unless `dedup` is a Redis: two workers could write the same event at once.
- `amqp.format = nest` sends one event a message: `amqp.envelope` is 1 then, and another value is refused.

Some combinations are allowed and promise less. `weir check` says so, and so does the log at the start:

- `sink = log` with `dedup = none` writes an event at least once, not exactly once.
- With a RabbitMQ as `queue`, `dedup = local` and `sink = local` keep what they know in the data folder of one worker process: two of them can
  write or store the same event. A Redis as `dedup` makes that rare for the log, PostgreSQL as `sink` prevents it.

Addresses:

- `queue`: `local`, `amqp://user:password@host:port/vhost`, or `amqps://…` with TLS. Several hosts are separated by commas
  (`amqp://user:password@host1,host2:5673/vhost`) and tried in turn.
- `dedup`: `local`, `redis://user:password@host:port/number`, with several `host:port` separated by commas for failover, or `none`.
- `sink`: `local`, `postgresql://user:password@host:port/database` with the parameters of libpq, `log` (standard output) or `log:/path`.
- What is not a letter or digit in a user, password or vhost is written as `%` and two hexadecimal digits: `/` as `%2F`, `@` as `%40`.
- Passwords are shown as `***` wherever a URL is printed or logged.
END
}

# The README with the lines between the markers replaced.
readme() {
    "$weir" help markdown >"$folder/table"
    awk -v table="$folder/table" '
        $0 == "<!-- /settings -->" { inside = 0; ends++ }
        !inside { print }
        $0 == "<!-- settings -->" { inside = 1; starts++; while ((getline line < table) > 0) print line }
        END { exit !(starts == 1 && ends == 1) }' README.md
}

"$weir" help conf >"$folder/new"
keep weir.conf.example
settings_page >"$folder/new"
keep docs/settings.md
"$weir" help man >"$folder/new"
keep docs/weir.1
if readme >"$folder/new"; then
    keep README.md
else
    echo "README.md has no <!-- settings --> and <!-- /settings --> on lines of their own" >&2
    differ=1
fi
exit "$differ"
