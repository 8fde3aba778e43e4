#!/bin/sh
# The figures of docs/postgres.md: fills an empty database with events, asks it what GET /events asks,
# with each index and without it, and tells what each index costs an insert.
#
#   bench/postgres-plans.sh postgresql://user:password@host/EMPTY_DATABASE [ROWS] [PLANS_FILE]
#
# ROWS: 5000000 by default, over the last ten days. PLANS_FILE: where the whole plans go. WEIR: the
# binary (default build/weir). The role must be a superuser and the server on this machine. It takes some minutes and about 500 bytes a row of disk.
set -eu

url=$1
rows=${2:-5000000}
plans=${3:-/dev/null}
weir=${WEIR:-build/weir}
costs=$((rows / 5)) # rows of each insert measurement

sql() {
    psql -X -q -A -t -v ON_ERROR_STOP=1 "$url" "$@"
}

fill() {
    "$weir" migrate --sink "$url"
    # the days before today, as upkeep would have made them
    sql <<'SQL'
SET TimeZone = 'UTC'; SET client_min_messages = warning;
DO $$ DECLARE d date; BEGIN
  FOR i IN 1..10 LOOP
    d := current_date - i;
    EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                   'events_' || to_char(d, 'YYYYMMDD'), d, d + 1);
  END LOOP;
END $$;
SQL
    # a tenth a day; twenty types that are common, one in 100 000 that is rare, and one that came often
    # yesterday morning and then no more
    sql -v rows="$rows" <<'SQL'
SET TimeZone = 'UTC'; SET synchronous_commit = off;
CREATE TEMP TABLE made AS
SELECT 'evt-' || substr(md5(n::text), 1, 20) AS event_id,
       CASE WHEN n % 100000 = 7 THEN 'RARE'
            WHEN n % 2 = 0 AND at >= current_date - 1 AND at < current_date - interval '22 hours' THEN 'EARLY'
            ELSE 'TYPE_' || lpad((n % 20)::text, 2, '0') END AS type,
       at - interval '1 hour' * (n % 7) AS timestamp,
       jsonb_build_object('message', 'Water issue in ward ' || n % 100, 'ward', n % 100,
                          'filler', md5(n::text)) AS payload,
       date_trunc('milliseconds', at) AS accepted_at,
       at + interval '20 ms' AS stored_at,
       (extract(epoch FROM date_trunc('milliseconds', at)) * 1000)::bigint * 2097152 + n % 2097152 AS seq
FROM (SELECT n, current_date - interval '10 days'
                + interval '10 days' * (n::float8 / :rows) AS at
      FROM generate_series(0, :rows - 1) n) s;
INSERT INTO events SELECT * FROM made;
INSERT INTO event_ids SELECT event_id, sha256(payload::text::bytea), stored_at, seq FROM made;
SQL
    sql -c 'VACUUM ANALYZE events' -c 'VACUUM ANALYZE event_ids'
    sql <<'SQL'
SELECT 'rows ' || count(*) FROM events;
SELECT 'events: table ' || pg_size_pretty(sum(pg_relation_size(inhrelid))) FROM pg_inherits
 WHERE inhparent = 'events'::regclass;
SELECT 'index ' || p.relname || ' ' || pg_size_pretty(sum(pg_relation_size(i.inhrelid)))
 FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE p.relname LIKE 'events_%'
 AND p.relkind = 'I' GROUP BY p.relname ORDER BY 1;
SELECT 'event_ids: table ' || pg_size_pretty(sum(pg_relation_size(inhrelid))) || ', key '
 || pg_size_pretty(sum(pg_indexes_size(inhrelid))) FROM pg_inherits
 WHERE inhparent = 'event_ids'::regclass;
SQL
}

# plan NAME WITHOUT QUERY: the best of three, and its buffers. WITHOUT: an index to do without, or -.
plan() {
    drop=
    [ "$2" = - ] || drop="DROP INDEX $2;"
    sql -c "BEGIN; SET LOCAL plan_cache_mode = force_custom_plan; $drop" \
        -c "EXPLAIN (ANALYZE, BUFFERS) $3" -c "EXPLAIN (ANALYZE, BUFFERS) $3" \
        -c "EXPLAIN (ANALYZE, BUFFERS) $3" -c "ROLLBACK" >"$tmp"
    { echo "== $1, without $2"; cat "$tmp"; } >>"$plans"
    awk -v name="$1" -v without="$2" '
        /^ *Buffers:/ && !seen { seen = 1; buffers = $0; sub(/^ *Buffers: /, "", buffers) }
        /^Planning Time/ { t = $3 + 0; if (!np++ || t < planning) planning = t }
        /^Execution Time/ { t = $3 + 0; if (!ne++ || t < best) { best = t; b = buffers } seen = 0 }
        END { printf "%-36s | %-29s | %9.2f ms | %6.2f ms | %s\n", name,
              without == "-" ? "all indexes" : "without " without, best, planning, b }' "$tmp"
}

columns='event_id, type, timestamp, payload, accepted_at, stored_at, seq'
list() { # CONDITIONS
    echo "SELECT $columns FROM events WHERE $1 ORDER BY seq DESC LIMIT 51"
}
list_type() { # CONDITIONS; the order is that of events_type_seq where it is there
    echo "SELECT $columns FROM events WHERE $1 ORDER BY seq DESC $nulls LIMIT 51"
}

ask() {
    max=9223372036854775807
    middle=$(sql -c "SELECT (extract(epoch FROM (current_date - 5)::timestamptz) * 1000)::bigint * 2097152")
    since=$(sql -c "SELECT (extract(epoch FROM (current_date - 2)::timestamptz) * 1000)::bigint * 2097152")
    stored=$(sql -c "SELECT quote_literal((current_date - 3)::timestamptz)")
    today=$(sql -c "SELECT (extract(epoch FROM current_date::timestamptz) * 1000)::bigint * 2097152")
    yesterday=$(sql -c "SELECT (extract(epoch FROM (current_date - 1)::timestamptz) * 1000)::bigint * 2097152")
    paused=$(sql -c "SELECT quote_literal((current_date - 2)::timestamptz)")
    day=$(sql -c "SELECT (extract(epoch FROM (SELECT max(accepted_at) FROM events) - interval '1 day') * 1000)::bigint * 2097152")
    days=$(sql -c "SELECT quote_literal((SELECT max(accepted_at) FROM events) - interval '2 days')")
    id=$(sql -c "SELECT event_id FROM event_ids WHERE stored_at >= current_date - 5 LIMIT 1")
    place=$(sql -F ' ' -c "SET TimeZone = 'UTC'; SELECT quote_literal(stored_at), seq FROM event_ids WHERE event_id = '$id'")
    at=${place% *}
    seq=${place##* }
    for without in - events_seq_key events_type_seq; do
        nulls='NULLS LAST'
        [ $without != events_type_seq ] || nulls=
        plan "newest 50, in the last day" $without "$(list "seq < $max AND seq >= $day AND stored_at >= $days")"
        plan "newest 50, in all days" $without "$(list "seq < $max AND seq >= 0")"
        plan "50 before a cursor, 5 days ago" $without "$(list "seq < $middle AND seq >= 0")"
        plan "since 2 days ago" $without "$(list "seq < $max AND seq >= $since AND stored_at >= $stored")"
        plan "until 5 days ago, one type" $without "$(list_type "seq < $middle AND seq >= 0 AND type = 'TYPE_03'")"
        plan "a common type" $without "$(list_type "seq < $max AND seq >= 0 AND type = 'TYPE_03'")"
        plan "a rare type" $without "$(list_type "seq < $max AND seq >= 0 AND type = 'RARE'")"
        plan "a type that paused for 22 hours" $without "$(list_type "seq < $today AND seq >= $yesterday AND stored_at >= $paused AND type = 'EARLY'")"
        plan "a type that never came" $without "$(list_type "seq < $max AND seq >= 0 AND type = 'NONE'")"
    done
    plan "one id: its place" - "SELECT stored_at, seq FROM event_ids WHERE event_id = '$id'"
    for without in - events_seq_key; do
        plan "one id: its row" $without \
            "SELECT $columns FROM events WHERE stored_at = $at AND seq = $seq AND event_id = '$id' LIMIT 1"
    done
    for without in - events_type_timestamp; do
        plan "yours: a type, an hour of timestamp" $without "SELECT count(*) FROM events WHERE type = 'TYPE_03' AND timestamp >= (current_date - 4)::timestamptz AND timestamp < (current_date - 4)::timestamptz + interval '1 hour'"
    done
    for without in - events_stored_at; do
        plan "yours: an hour of stored_at" $without "SELECT count(*) FROM events WHERE stored_at >= (current_date - 4)::timestamptz AND stored_at < (current_date - 4)::timestamptz + interval '1 hour'"
    done
}

# What the session's process used so far, in ticks: the time that others take does not count.
cpu="SELECT 'cpu ' || a[12]::bigint + a[13]::bigint FROM regexp_split_to_array(regexp_replace(pg_read_file('/proc/self/stat'), '^.*\\) ', ''), ' ') a;"

# cost NAME SQL: inserts into tables of their own, changed by SQL, 512 events a transaction, with
# random ids as clients send them.
cost() {
    sql >"$tmp" <<SQL
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS cost CASCADE;
CREATE SCHEMA cost;
SET search_path = cost;
CREATE TABLE events (LIKE public.events);
CREATE TABLE event_ids (LIKE public.event_ids) PARTITION BY HASH (event_id);
ALTER TABLE event_ids ADD PRIMARY KEY (event_id);
DO \$\$ BEGIN FOR i IN 0..15 LOOP EXECUTE format('CREATE TABLE event_ids_%s PARTITION OF event_ids FOR VALUES WITH (MODULUS 16, REMAINDER %s)', i, i); END LOOP; END \$\$;
CREATE INDEX stored_at ON events USING brin (stored_at) WITH (autosummarize = on);
CREATE INDEX type_timestamp ON events (type, timestamp);
CREATE INDEX seq ON events (seq);
CREATE INDEX type_seq ON events (type, seq NULLS FIRST);
$2
CHECKPOINT;
SELECT pg_current_wal_lsn() AS before \gset
$cpu
\timing on
DO \$\$ BEGIN FOR i IN 0..$costs / 512 - 1 LOOP
 WITH input AS MATERIALIZED (SELECT md5(random()::text) AS event_id, 'TYPE_' || n % 20 AS type, clock_timestamp() AS at, n FROM generate_series(1, 512) n),
 fresh AS (INSERT INTO event_ids SELECT event_id, sha256(event_id::bytea), now(), (extract(epoch FROM at) * 1000)::bigint * 2097152 + n FROM input ORDER BY 1 ON CONFLICT DO NOTHING RETURNING event_id)
 INSERT INTO events SELECT event_id, type, at, '{"message": "Water issue", "ward": 12, "filler": "0123456789abcdef0123456789abcdef"}', at, now(), (extract(epoch FROM at) * 1000)::bigint * 2097152 + n FROM input JOIN fresh USING (event_id);
 COMMIT; END LOOP; END \$\$;
\timing off
$cpu
SELECT 'wal ' || (pg_current_wal_lsn() - :'before'::pg_lsn) / count(*) FROM events;
SELECT 'count ' || count(*) FROM events;
DROP SCHEMA cost CASCADE;
SQL
    awk -v name="$1" -v hz="$(getconf CLK_TCK)" '
        /^cpu/ { cpu = $2 - cpu } /^Time:/ { ms = $2 } /^wal/ { wal = $2 } /^count/ { n = $2 }
        END { printf "%-28s | %5.1f µs | %5.1f µs | %4.0f bytes\n", name, ms * 1000 / n,
              cpu * 1e6 / hz / n, wal }' "$tmp"
}

# A year of days: what many tables cost a plan.
ask_of_many() {
    sql <<'SQL'
SET TimeZone = 'UTC'; SET client_min_messages = warning;
DO $$ DECLARE d date; BEGIN
  FOR i IN 11..365 LOOP
    d := current_date - i;
    EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                   'events_' || to_char(d, 'YYYYMMDD'), d, d + 1);
  END LOOP;
END $$;
SQL
    sql -c 'ANALYZE events'
    nulls='NULLS LAST'
    plan "newest 50, in the last day" - "$(list "seq < $max AND seq >= $day AND stored_at >= $days")"
    plan "newest 50, in all days" - "$(list "seq < $max AND seq >= 0")"
    plan "since 2 days ago" - "$(list "seq < $max AND seq >= $since AND stored_at >= $stored")"
    plan "a rare type" - "$(list_type "seq < $max AND seq >= 0 AND type = 'RARE'")"
    plan "one id: its row" - \
        "SELECT $columns FROM events WHERE stored_at = $at AND seq = $seq AND event_id = '$id' LIMIT 1"
}

tmp=$(mktemp)
trap 'rm -f "$tmp"' EXIT
: >"$plans"
fill
echo
echo "query | indexes | execution | planning | buffers (8 KiB)"
ask
echo
echo "the same with the tables of a year"
ask_of_many
echo
echo "insert of $((costs / 512 * 512)) events, 512 a transaction | time an event | CPU of it | WAL"
for again in 1 2; do
    cost "all indexes" ""
    cost "without stored_at (BRIN)" "DROP INDEX stored_at;"
    cost "without (type, timestamp)" "DROP INDEX type_timestamp;"
    cost "without seq" "DROP INDEX seq;"
    cost "without (type, seq)" "DROP INDEX type_seq;"
    cost "no index on events" "DROP INDEX stored_at, type_timestamp, seq, type_seq;"
done
