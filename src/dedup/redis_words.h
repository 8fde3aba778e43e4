/* redis_words.h - what dedup_redis.c says to Redis: keys, values, scripts.
 * Keys:     processed:<event_id> and claim:<event_id>. The value of the first is the beginning of
 *           the payload's hash; that of the second is the owner's token.
 * Contract: each function adds whole commands to `commands`, of the batch's events for which the
 *           predicate named beside it holds.
 * Threads:  one owner.
 * Fails:    ERR_NOMEM; then `commands` is of no use. */
#ifndef WEIR_REDIS_WORDS_H
#define WEIR_REDIS_WORDS_H

#include "batch.h"
#include "buf.h"
#include "env.h"

#define REDIS_HASH_DIGITS 16 /* hex, of SHA-256 */

struct redis_words {
    struct buf commands;
    char ttl_s[24];
    char lease_ms[24];
    char token[33]; /* 128 bits, nobody else's */
    struct evp_md_st *sha256;
    struct evp_md_ctx_st *digest;
};

enum err redis_words_init(struct redis_words *w, struct env *env, int64_t lease_ms) MUST_CHECK;
void redis_words_fini(struct redis_words *w);
void redis_words_set_ttl(struct redis_words *w, int64_t ttl_ms); /* rounded up to seconds */

bool redis_words_open(const struct delivery *d); /* not decided yet */
bool redis_words_done(const struct delivery *d); /* had its effect now */
/* Done, or dead: then only its claim ends, since it may be replayed by another worker at once. */
bool redis_words_over(const struct delivery *d);
size_t redis_words_count(const struct batch *b, bool (*is)(const struct delivery *d));

/* Of what is open: asks. One reply: a list of the notes, nil where there is none. */
enum err redis_words_ask(struct redis_words *w, const struct batch *b) MUST_CHECK;
/* Of what is open: the same, and claims what has no note; an empty list and no claim at all when
 * another owner holds one of them. */
enum err redis_words_claim(struct redis_words *w, const struct batch *b) MUST_CHECK;
/* Of what is done: notes it. A reply each. */
enum err redis_words_note(struct redis_words *w, const struct batch *b) MUST_CHECK;
/* Of what is over: notes it, and ends our claims. One reply. */
enum err redis_words_release(struct redis_words *w, const struct batch *b) MUST_CHECK;

/* Is this note ours, and of another payload? */
enum err redis_words_differs(struct redis_words *w, bool *differs, struct span note,
                             const struct event *ev) MUST_CHECK;

#endif
