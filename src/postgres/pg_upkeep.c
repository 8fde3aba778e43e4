/* pg_upkeep.c - partitions: those of the days ahead are made, those older than the retention are
 * dropped with their ids.
 *
 * 1. An insert never fails for want of a partition: events_default takes what has none. What lies
 *    there when its day is made moves along.
 * 2. An id is forgotten together with its event, never before: event_ids is the unique key. From
 *    then on, a repeat is a new event.
 * 3. A worker does this between two batches. So a call takes UPKEEP_MS at most and comes back soon
 *    where more is to do, and a lock that somebody holds is waited for no longer than two seconds:
 *    whoever waits for a table keeps others from it. */
#include "postgres/pg_parts.h"

#include "env.h"

#include <inttypes.h>
#include <stdio.h>

#define LOCK_MAKE "7310311200002"
#define LOCK_DROP "7310311200003"
#define UPKEEP_MS 200
#define AGAIN_MS INT64_C(3600000)
#define AGAIN_SOON_MS 1000
#define AGAIN_FAILED_MS 300000
#define FORGET_PAGES 50  /* of a day's table in one step; some thousand rows */
#define FORGET_ROWS 5000 /* of the default partition in one step */

/* A table is filled and then attached: that takes a weaker lock on events than making it in place.
 * The default partition is locked first, or it could be given a row of this day meanwhile. */
enum err
pg_make_days(struct pg *p)
{
    return pg_run(
        p, NULL,
        "SET LOCAL lock_timeout = '2s';"
        "DO $$ DECLARE d date; n text; b text; e text; BEGIN"
        " IF NOT pg_try_advisory_xact_lock(" LOCK_MAKE ") THEN RETURN; END IF;"
        " FOR d IN SELECT generate_series(current_date, current_date + 7, interval '1 day')::date"
        " LOOP n := 'events_' || to_char(d, 'YYYYMMDD');"
        "  CONTINUE WHEN to_regclass(n) IS NOT NULL;"
        "  b := to_char(d, 'YYYY-MM-DD') || ' 00:00:00+00';"
        "  e := to_char(d + 1, 'YYYY-MM-DD') || ' 00:00:00+00';"
        "  EXECUTE format('CREATE TABLE %I (LIKE events INCLUDING ALL)', n);"
        "  LOCK TABLE events_default IN ACCESS EXCLUSIVE MODE;"
        "  EXECUTE format('WITH moved AS (DELETE FROM events_default"
        "   WHERE stored_at >= %L AND stored_at < %L RETURNING *)"
        "   INSERT INTO %I SELECT * FROM moved', b, e, n);"
        "  EXECUTE format('ALTER TABLE events ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',"
        "   n, b, e);"
        " END LOOP; END $$");
}

/* The first day, as 20260203, whose events are all older than the retention; "" when there is
 * none. */
static enum err
find_old_day(struct pg *p, char day[9], int64_t retention_ms)
{
    PG_RESULT r = NULL;
    char sql[512];
    snprintf(sql, sizeof sql,
             "SELECT min(substr(c.relname, 8)) FROM pg_inherits i JOIN pg_class c ON c.oid ="
             " i.inhrelid WHERE i.inhparent = 'events'::regclass AND c.relname ~"
             " '^events_[0-9]{8}$' AND to_date(substr(c.relname, 8), 'YYYYMMDD') <"
             " (now() - interval '%" PRId64 " milliseconds')::date",
             retention_ms);
    enum err e = pg_run(p, &r, sql);
    snprintf(day, 9, "%s", e == OK ? PQgetvalue(r, 0, 0) : "");
    return e;
}

/* Another worker may have dropped the day that we were at. */
static void
go_to_day(struct pg *p, const char *day)
{
    if (strcmp(p->forget_day, day) != 0) {
        memcpy(p->forget_day, day, sizeof p->forget_day);
        p->forget_page = 0;
    }
}

/* The ids of the next pages of a day's table. An id that was given again since has another seq. *left:
 * there are more. */
static enum err
forget_ids(struct pg *p, bool *left, const char *day)
{
    PG_RESULT r = NULL;
    char sql[640];
    int64_t next = p->forget_page + FORGET_PAGES;
    snprintf(sql, sizeof sql,
             "SET LOCAL enable_nestloop = on;"
             "WITH picked AS MATERIALIZED (SELECT event_id, seq FROM events_%s"
             " WHERE ctid >= '(%" PRId64 ",0)' AND ctid < '(%" PRId64 ",0)'),"
             " gone AS (DELETE FROM event_ids i USING picked s WHERE i.event_id = s.event_id"
             " AND i.seq = s.seq) SELECT pg_relation_size('events_%s') /"
             " current_setting('block_size')::int",
             day, p->forget_page, next, day);
    enum err e = pg_run(p, &r, sql);
    if (e == OK) {
        *left = next < pg_number(r, 0);
        p->forget_page = next;
    }
    return e;
}

static enum err
drop_day(struct pg *p, const char *day)
{
    char sql[128];
    snprintf(sql, sizeof sql, "SET LOCAL lock_timeout = '2s'; DROP TABLE events_%s", day);
    return pg_run(p, NULL, sql);
}

static enum err
forget_some_of_day(struct pg *p, const char *day)
{
    bool left = false;
    go_to_day(p, day);
    enum err e = forget_ids(p, &left, day);
    return e == OK && !left ? drop_day(p, day) : e;
}

/* What the default partition caught has no table that could be dropped. */
static enum err
forget_strays(struct pg *p, bool *left, int64_t retention_ms)
{
    PG_RESULT r = NULL;
    char sql[768];
    snprintf(sql, sizeof sql,
             "SET LOCAL enable_nestloop = on;"
             "WITH picked AS MATERIALIZED (SELECT ctid AS place, event_id, seq FROM events_default"
             " WHERE stored_at < (now() - interval '%" PRId64 " milliseconds')::date LIMIT %d),"
             " ids AS (DELETE FROM event_ids i USING picked s WHERE i.event_id = s.event_id"
             " AND i.seq = s.seq),"
             " strays AS (DELETE FROM events_default d USING picked s WHERE d.ctid = s.place)"
             " SELECT count(*) FROM picked",
             retention_ms, FORGET_ROWS);
    enum err e = pg_run(p, &r, sql);
    *left = e == OK && pg_number(r, 0) == FORGET_ROWS;
    return e;
}

static enum err
forget_some(struct pg *p, bool *left, int64_t retention_ms)
{
    char day[9];
    enum err e = find_old_day(p, day, retention_ms);
    if (e == OK && day[0] != '\0') {
        *left = true;
        return forget_some_of_day(p, day);
    }
    return e == OK ? forget_strays(p, left, retention_ms) : e;
}

static enum err
forget_for_a_while(struct pg *p, bool *left, int64_t retention_ms)
{
    int64_t until_ms = p->env->mono_ms(p->env) + UPKEEP_MS;
    enum err e = OK;
    do {
        *left = false;
        e = forget_some(p, left, retention_ms);
    } while (e == OK && *left && p->env->mono_ms(p->env) < until_ms);
    return e;
}

/* One worker at a time; the others find nothing to do. */
static enum err
forget_old(struct pg *p, bool *left, int64_t retention_ms)
{
    PG_RESULT r = NULL;
    enum err e = pg_run(p, &r, "SELECT pg_try_advisory_lock(" LOCK_DROP ")");
    if (e != OK || strcmp(PQgetvalue(r, 0, 0), "t") != 0) {
        return e;
    }
    e = forget_for_a_while(p, left, retention_ms);
    enum err end =
        p->conn != NULL ? pg_run(p, NULL, "SELECT pg_advisory_unlock(" LOCK_DROP ")") : OK;
    return e != OK ? e : end;
}

enum err
pg_upkeep(struct pg *p, int64_t retention_ms)
{
    int64_t now_ms = p->env->mono_ms(p->env);
    if (now_ms < p->upkeep_due_ms) {
        return OK;
    }
    bool left = false;
    enum err e = pg_connect(p);
    if (e == OK) {
        e = pg_make_days(p);
    }
    if (e == OK && retention_ms > 0) {
        e = forget_old(p, &left, retention_ms);
    }
    p->upkeep_due_ms = now_ms + (e != OK ? AGAIN_FAILED_MS : left ? AGAIN_SOON_MS : AGAIN_MS);
    return e;
}
