/* dedup_redis.c - a cache of decisions.
 *
 * processed:<event_id> says that the id had its effect. Any value does; ours is the beginning of
 * the payload's hash, so that another payload is a conflict. One round trip a batch asks for all
 * ids, one notes them.
 *
 * Happy path, the sink decides (it commits a unique key with the effect): MGET, and SET … EX of
 * what the sink has committed. A note makes an event a duplicate without the sink being asked, so
 * it is written only when the effect is durable. A batch whose effect is only staged (local queue
 * and local sink: settle commits it) is therefore not noted at all: a crash before the commit would
 * leave the note of an effect that never was, and lose the event.
 *
 * Happy path, the sink has no unique key: claim:<event_id> = our token, for a lease, keeps two
 * workers from writing one id at the same moment. Asking and claiming is one script, all ids or
 * none; noting and letting go is another. A claim of another worker holds up the whole batch until
 * it is let go or its lease ends; that of a worker that died ends by its lease alone. Redis is given
 * the whole script each time: that costs it a hash of 600 bytes, and a server that has lost its
 * scripts is no case of its own.
 *
 * Failure modes. Redis is late, gone, full or answers nonsense: with a deciding sink everything is
 * left to the sink, and a breaker keeps Redis from costing its deadline at every batch. Without one
 * there is no protection between workers, and the batch waits: never weaker in silence. An effect
 * that could not be noted is noted before anything is asked again, so that the retry of its batch
 * finds it there. What stays open without a deciding sink: a crash between write and note, and a
 * FLUSHALL or a failover that forgets claims or notes.
 *
 * Invariants. 1. No note before its effect is durable. 2. A claim is let go by its owner only.
 * 3. No call takes longer than dedup.timeout for each 1000 ids begun (but for the look-up of a
 * host's name). */
#include "dedup/dedup.h"

#include "config.h"
#include "dedup/breaker.h"
#include "dedup/redis_link.h"
#include "dedup/redis_words.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>

#define OPEN_TIMEOUT_MS 250   /* at least: an operator waits, no event does */
#define PROBE_TTL_MS 1000     /* of the note of an id that no event has */
#define LEASE_MARGIN_MS 10000 /* a lease outlasts the longest write, sink.timeout, by this */
#define BREAK_MAX_MS 30000
#define TIMEOUT_IDS 1000 /* dedup.timeout is for so many ids; a larger batch may take longer */

struct dedup_redis {
    struct dedup base;
    struct env *env; /* borrowed */
    struct redis_link *link;
    struct redis_words words;
    bool sink_decides;
    bool waits; /* for another worker's claim; said once */
    int64_t timeout_ms;
    struct buf unmarked; /* the words that note effects and were not answered; only with claims */
    size_t n_unmarked;   /* commands in it */
    struct breaker all;
    struct breaker writes;
};

/* What could not be noted before goes first. */
static void
begin(struct dedup_redis *r)
{
    buf_reset(&r->words.commands);
    if (r->n_unmarked > 0) {
        buf_add_span(&r->words.commands, buf_span(&r->unmarked));
    }
}

static enum redis_outcome
call(struct dedup_redis *r, size_t replies, size_t n)
{
    int64_t timeout_ms = r->timeout_ms * (int64_t)(1 + n / TIMEOUT_IDS);
    enum redis_outcome outcome =
        redis_link_call(r->link, buf_span(&r->words.commands), r->n_unmarked + replies, timeout_ms);
    if (outcome == REDIS_ANSWERED) {
        r->n_unmarked = 0;
        breaker_mend(&r->all);
    }
    return outcome;
}

/* ---- seen ---- */

static enum err
ask(struct dedup_redis *r, enum redis_outcome *outcome, const struct batch *b)
{
    begin(r);
    enum err e = r->sink_decides ? redis_words_ask(&r->words, b) : redis_words_claim(&r->words, b);
    if (e == OK) {
        *outcome = call(r, 1, b->n);
    }
    return e;
}

static enum err
apply(struct dedup_redis *r, struct batch *b)
{
    size_t at = 0;
    enum err e = OK;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        struct delivery *d = &b->item[i];
        if (!redis_words_open(d)) {
            continue;
        }
        struct span note = redis_link_item(r->link, at++);
        if (note.at != NULL) {
            d->state = EVENT_DUPLICATE;
            e = redis_words_differs(&r->words, &d->conflict, note, d->ev);
        }
    }
    return e == OK ? batch_mark_repeats(b) : e;
}

static enum err
wait_for_claim(struct dedup_redis *r)
{
    if (!r->waits) {
        log_info(r->env->log, "dedup.redis.claimed",
                 "why=\"another worker holds an id of this batch\" at_most_ms=%s",
                 r->words.lease_ms);
    }
    r->waits = true;
    return ERR_UNAVAILABLE;
}

static enum err
go_without(struct dedup_redis *r, struct batch *b)
{
    return r->sink_decides ? batch_mark_repeats(b) : ERR_UNAVAILABLE;
}

static enum err
redis_seen(struct dedup *d, struct batch *b)
{
    struct dedup_redis *r = (struct dedup_redis *)d;
    size_t n = redis_words_count(b, redis_words_open);
    if (n == 0) {
        return OK;
    }
    if (breaker_is_open(&r->all)) {
        return go_without(r, b);
    }
    enum redis_outcome outcome;
    enum err e = ask(r, &outcome, b);
    if (e != OK) {
        return e;
    }
    size_t items = redis_link_items(r->link);
    bool claimed = !r->sink_decides && items == 0;
    if (outcome != REDIS_ANSWERED || (items != n && !claimed)) {
        breaker_trip(&r->all, redis_link_why(r->link));
        return go_without(r, b);
    }
    if (claimed) {
        return wait_for_claim(r);
    }
    r->waits = false;
    return apply(r, b);
}

/* ---- mark ---- */

static enum err
tell(struct dedup_redis *r, enum redis_outcome *outcome, const struct batch *b)
{
    begin(r);
    enum err e =
        r->sink_decides ? redis_words_note(&r->words, b) : redis_words_release(&r->words, b);
    if (e == OK) {
        *outcome = call(r, r->sink_decides ? redis_words_count(b, redis_words_done) : 1, b->n);
    }
    return e;
}

/* The effects are durable and Redis does not know. */
static void
keep_unmarked(struct dedup_redis *r)
{
    struct buf kept = r->words.commands;
    r->words.commands = r->unmarked;
    r->unmarked = kept;
    r->n_unmarked++;
}

/* Tried even while the breaker is open: the effect has happened. */
static enum err
mark_claimed(struct dedup_redis *r, const struct batch *b)
{
    enum redis_outcome outcome = REDIS_ANSWERED;
    enum err e = redis_words_count(b, redis_words_over) == 0 ? OK : tell(r, &outcome, b);
    if (e == OK && outcome != REDIS_ANSWERED) {
        breaker_trip(&r->all, redis_link_why(r->link));
        keep_unmarked(r);
        e = ERR_UNAVAILABLE;
    }
    return e;
}

/* Whatever becomes of a note, the sink has the id. */
static enum err
mark_cached(struct dedup_redis *r, const struct batch *b)
{
    if (redis_words_count(b, redis_words_done) == 0 || breaker_is_open(&r->all) ||
        breaker_is_open(&r->writes)) {
        return OK;
    }
    enum redis_outcome outcome;
    enum err e = tell(r, &outcome, b);
    if (e != OK) {
        return e;
    }
    if (outcome == REDIS_ANSWERED) {
        breaker_mend(&r->writes);
    } else {
        breaker_trip(outcome == REDIS_READS ? &r->writes : &r->all, redis_link_why(r->link));
    }
    return OK;
}

static enum err
redis_mark(struct dedup *d, struct batch *b)
{
    struct dedup_redis *r = (struct dedup_redis *)d;
    if (b->staged & STAGE_WRITE) {
        return OK; /* invariant 1 */
    }
    return r->sink_decides ? mark_cached(r, b) : mark_claimed(r, b);
}

/* ---- open and close ---- */

/* Without the last attempt the batch, which is given again, would be written again. */
static void
redis_close(struct dedup *d)
{
    struct dedup_redis *r = (struct dedup_redis *)d;
    if (r == NULL) {
        return;
    }
    if (r->n_unmarked > 0) {
        begin(r);
        if (!buf_ok(&r->words.commands) || call(r, 0, 0) != REDIS_ANSWERED) {
            log_warn(r->env->log, "dedup.redis.unmarked", "batches=%zu", r->n_unmarked);
        }
    }
    redis_link_close(r->link);
    redis_words_fini(&r->words);
    buf_fini(&r->unmarked);
    free(r);
}

/* Where a batch waits for Redis, the worker pauses between attempts already. */
static void
init_breakers(struct dedup_redis *r)
{
    r->all = (struct breaker){
        .env = r->env,
        .what = "everything",
        .then = r->sink_decides ? "the sink decides alone" : "batches wait",
        .most_ms = r->sink_decides ? BREAK_MAX_MS : BREAKER_FIRST_MS,
    };
    r->writes = r->all;
    r->writes.what = "writes";
}

/* What stops us now, and what may pass. */
static enum err
judge(struct dedup_redis *r, enum redis_outcome outcome, char *why, size_t why_size)
{
    if (outcome == REDIS_DENIED) {
        snprintf(why, why_size, "dedup: Redis does not let us in: %s", redis_link_why(r->link));
        return ERR_CONFIG;
    }
    if (outcome != REDIS_ANSWERED) {
        bool reads = outcome == REDIS_READS && r->sink_decides;
        breaker_trip(reads ? &r->writes : &r->all, redis_link_why(r->link));
    }
    return OK;
}

/* Asks and notes an id that no event has, as for a batch: what will never do (user, password,
 * permissions, database) is known before the first event comes. */
static enum err
try_once(struct dedup_redis *r, char *why, size_t why_size)
{
    struct batch b;
    enum err e = batch_init(&b, 1);
    struct event *ev = e == OK ? event_new(SPAN(""), SPAN("-"), SPAN("-"), SPAN("{}")) : NULL;
    if (ev == NULL) {
        batch_fini(&b);
        return ERR_NOMEM;
    }
    batch_add(&b, ev);
    redis_words_set_ttl(&r->words, PROBE_TTL_MS);
    enum redis_outcome outcome = REDIS_ANSWERED;
    e = ask(r, &outcome, &b);
    if (e == OK && outcome == REDIS_ANSWERED) {
        e = tell(r, &outcome, &b);
    }
    batch_fini(&b);
    return e == OK ? judge(r, outcome, why, why_size) : e;
}

enum err
dedup_redis_open(struct dedup **out, const struct config *cfg, struct env *env, bool sink_decides,
                 char *why, size_t why_size)
{
    static const struct dedup_ops ops = {"redis", redis_seen, redis_mark, redis_close};
    struct dedup_redis *r = calloc(1, sizeof *r);
    if (r == NULL) {
        return ERR_NOMEM;
    }
    r->base.ops = &ops;
    r->env = env;
    r->sink_decides = sink_decides;
    r->timeout_ms = cfg->dedup_timeout > OPEN_TIMEOUT_MS ? cfg->dedup_timeout : OPEN_TIMEOUT_MS;
    init_breakers(r);
    buf_init(&r->unmarked, 0);
    enum err e = redis_words_init(&r->words, env, cfg->sink_timeout + LEASE_MARGIN_MS);
    if (e == OK) {
        e = redis_link_open(&r->link, cfg->dedup, env, why, why_size);
    }
    if (e == OK) {
        e = try_once(r, why, why_size);
    }
    if (e != OK) {
        redis_close(&r->base);
        return e;
    }
    r->timeout_ms = cfg->dedup_timeout;
    redis_words_set_ttl(&r->words, cfg->dedup_ttl);
    *out = &r->base;
    return OK;
}
