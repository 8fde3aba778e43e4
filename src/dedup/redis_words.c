#include "dedup/redis_words.h"

#include "dedup/redis_link.h"

#include <assert.h>
#include <openssl/evp.h>
#include <stdio.h>

/* KEYS: the two keys of each id. ARGV: token, lease. */
static const char claim_script[] =
    "local seen, owner, busy = {}, {}, false\n"
    "for i = 1, #KEYS, 2 do\n"
    "  local got = redis.call('MGET', KEYS[i], KEYS[i + 1])\n"
    "  seen[#seen + 1] = got[1]\n"
    "  owner[#seen] = got[2]\n"
    "  busy = busy or (not got[1] and got[2] and got[2] ~= ARGV[1])\n"
    "end\n"
    "for i = 1, #seen do\n"
    "  if not busy and not seen[i] then\n"
    "    redis.call('SET', KEYS[2 * i], ARGV[1], 'PX', ARGV[2])\n"
    "  elseif busy and owner[i] == ARGV[1] then\n"
    "    redis.call('DEL', KEYS[2 * i])\n"
    "  end\n"
    "end\n"
    "return busy and {} or seen\n";

/* ARGV: token, ttl, a hash for each id, empty for what is dead. */
static const char release_script[] =
    "for i = 1, #KEYS, 2 do\n"
    "  local hash = ARGV[2 + (i + 1) / 2]\n"
    "  if hash ~= '' then redis.call('SET', KEYS[i], hash, 'EX', ARGV[2]) end\n"
    "  if redis.call('MGET', KEYS[i + 1])[1] == ARGV[1] then redis.call('DEL', KEYS[i + 1]) end\n"
    "end\n"
    "return 1\n";

/* ---- which events ---- */

bool
redis_words_open(const struct delivery *d)
{
    return d->state == EVENT_PROCESSING;
}

bool
redis_words_done(const struct delivery *d)
{
    return d->state == EVENT_PROCESSING && d->result == OK;
}

bool
redis_words_over(const struct delivery *d)
{
    return redis_words_done(d) || d->state == EVENT_DEAD;
}

size_t
redis_words_count(const struct batch *b, bool (*is)(const struct delivery *d))
{
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        n += is(&b->item[i]);
    }
    return n;
}

/* ---- values ---- */

static enum err
hash_payload(struct redis_words *w, char out[REDIS_HASH_DIGITS + 1], const struct event *ev)
{
    static const char digits[] = "0123456789abcdef";
    struct span payload = event_payload(ev);
    unsigned char sum[EVP_MAX_MD_SIZE];
    if (EVP_DigestInit_ex2(w->digest, w->sha256, NULL) != 1 ||
        EVP_DigestUpdate(w->digest, payload.at, payload.len) != 1 ||
        EVP_DigestFinal_ex(w->digest, sum, NULL) != 1) {
        return ERR_NOMEM;
    }
    for (size_t i = 0; i < REDIS_HASH_DIGITS; i++) {
        out[i] = digits[(i % 2 == 0 ? sum[i / 2] >> 4 : sum[i / 2]) & 15];
    }
    out[REDIS_HASH_DIGITS] = '\0';
    return OK;
}

/* What the older service noted says nothing of the payload. */
static bool
is_hash(struct span note)
{
    for (size_t i = 0; i < note.len; i++) {
        if (memchr("0123456789abcdef", note.at[i], 16) == NULL) {
            return false;
        }
    }
    return note.len == REDIS_HASH_DIGITS;
}

enum err
redis_words_differs(struct redis_words *w, bool *differs, struct span note, const struct event *ev)
{
    *differs = false;
    if (!is_hash(note)) {
        return OK;
    }
    char hash[REDIS_HASH_DIGITS + 1];
    enum err e = hash_payload(w, hash, ev);
    *differs = e == OK && memcmp(note.at, hash, REDIS_HASH_DIGITS) != 0;
    return e;
}

/* ---- commands ---- */

static void
add(struct redis_words *w, const char *text)
{
    redis_argument(&w->commands, span_of(text));
}

static void
add_key(struct redis_words *w, struct span prefix, const struct event *ev)
{
    char key[16 + EVENT_ID_MAX];
    struct span id = event_id(ev);
    assert(prefix.len + id.len <= sizeof key);
    memcpy(key, prefix.at, prefix.len);
    memcpy(key + prefix.len, id.at, id.len);
    redis_argument(&w->commands, (struct span){key, prefix.len + id.len});
}

static void
add_done_key(struct redis_words *w, const struct event *ev)
{
    add_key(w, SPAN("processed:"), ev);
}

static void
add_both_keys(struct redis_words *w, const struct event *ev)
{
    add_done_key(w, ev);
    add_key(w, SPAN("claim:"), ev);
}

/* Up to the two keys of each of n ids. */
static void
add_eval(struct redis_words *w, const char *script, size_t n, size_t args)
{
    char keys[24];
    snprintf(keys, sizeof keys, "%zu", 2 * n);
    redis_command(&w->commands, 3 + 2 * n + args);
    add(w, "EVAL");
    add(w, script);
    add(w, keys);
}

static enum err
whole(const struct redis_words *w)
{
    return buf_ok(&w->commands) ? OK : ERR_NOMEM;
}

enum err
redis_words_ask(struct redis_words *w, const struct batch *b)
{
    redis_command(&w->commands, 1 + redis_words_count(b, redis_words_open));
    add(w, "MGET");
    for (size_t i = 0; i < b->n; i++) {
        if (redis_words_open(&b->item[i])) {
            add_done_key(w, b->item[i].ev);
        }
    }
    return whole(w);
}

enum err
redis_words_claim(struct redis_words *w, const struct batch *b)
{
    add_eval(w, claim_script, redis_words_count(b, redis_words_open), 2);
    for (size_t i = 0; i < b->n; i++) {
        if (redis_words_open(&b->item[i])) {
            add_both_keys(w, b->item[i].ev);
        }
    }
    add(w, w->token);
    add(w, w->lease_ms);
    return whole(w);
}

static enum err
add_set(struct redis_words *w, const struct event *ev)
{
    char hash[REDIS_HASH_DIGITS + 1];
    enum err e = hash_payload(w, hash, ev);
    if (e == OK) {
        redis_command(&w->commands, 5);
        add(w, "SET");
        add_done_key(w, ev);
        add(w, hash);
        add(w, "EX");
        add(w, w->ttl_s);
    }
    return e;
}

enum err
redis_words_note(struct redis_words *w, const struct batch *b)
{
    enum err e = OK;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        if (redis_words_done(&b->item[i])) {
            e = add_set(w, b->item[i].ev);
        }
    }
    return e == OK ? whole(w) : e;
}

static enum err
add_hash(struct redis_words *w, const struct delivery *d)
{
    char hash[REDIS_HASH_DIGITS + 1] = "";
    enum err e = redis_words_done(d) ? hash_payload(w, hash, d->ev) : OK;
    add(w, hash);
    return e;
}

enum err
redis_words_release(struct redis_words *w, const struct batch *b)
{
    size_t n = redis_words_count(b, redis_words_over);
    add_eval(w, release_script, n, 2 + n);
    for (size_t i = 0; i < b->n; i++) {
        if (redis_words_over(&b->item[i])) {
            add_both_keys(w, b->item[i].ev);
        }
    }
    add(w, w->token);
    add(w, w->ttl_s);
    enum err e = OK;
    for (size_t i = 0; i < b->n && e == OK; i++) {
        if (redis_words_over(&b->item[i])) {
            e = add_hash(w, &b->item[i]);
        }
    }
    return e == OK ? whole(w) : e;
}

/* ---- open and close ---- */

enum err
redis_words_init(struct redis_words *w, struct env *env, int64_t lease_ms)
{
    buf_init(&w->commands, 0); /* bounded by the batch */
    unsigned long long high = env->random(env);
    unsigned long long low = env->random(env);
    snprintf(w->token, sizeof w->token, "%016llx%016llx", high, low);
    snprintf(w->lease_ms, sizeof w->lease_ms, "%lld", (long long)lease_ms);
    w->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    w->digest = EVP_MD_CTX_new();
    return w->sha256 == NULL || w->digest == NULL ? ERR_NOMEM : OK;
}

void
redis_words_set_ttl(struct redis_words *w, int64_t ttl_ms)
{
    snprintf(w->ttl_s, sizeof w->ttl_s, "%lld", (long long)((ttl_ms + 999) / 1000));
}

void
redis_words_fini(struct redis_words *w)
{
    EVP_MD_CTX_free(w->digest);
    EVP_MD_free(w->sha256);
    buf_fini(&w->commands);
}
