/* store_ids.c - a table from a 64-bit SipHash of the id (keyed per store, so that nobody can aim for one slot) to the seq of the
 * row that holds the id itself. Two ids with one hash: the later one takes the next free number (linear probing), so a lookup goes on
 * from the hash until it meets the id or a gap. Rows are never removed, so no gap appears in the middle of a run.
 *
 * Happy path: one INSERT that finds its slot free. Known limit: hashes are random, so inserts dirty random pages, and cost grows with the table. */
#include "store/store_ids.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "store/store_schema.h"

/* A test build makes the hash weak, so that collisions happen. */
#ifndef STORE_IDS_HASH_BITS
#define STORE_IDS_HASH_BITS 64
#endif

struct store_ids {
    struct store_db *db;
    EVP_MAC_CTX *siphash;
    sqlite3_stmt *add, *slot, *event, *mark;
};

static enum err
open_hash(struct store_ids *ids)
{
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    if (mac == NULL) {
        return ERR_NOMEM;
    }
    ids->siphash = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);
    size_t size = 8;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                           OSSL_PARAM_construct_end()};
    if (ids->siphash == NULL ||
        EVP_MAC_init(ids->siphash, store_db_id_key(ids->db), STORE_ID_KEY_BYTES, params) != 1) {
        return ERR_NOMEM;
    }
    return OK;
}

enum err
store_ids_open(struct store_ids **out, struct store_db *db)
{
    struct store_ids *ids = calloc(1, sizeof *ids);
    if (ids == NULL) {
        return ERR_NOMEM;
    }
    ids->db = db;
    enum err e = open_hash(ids);
    if (e == OK) {
        e = store_db_prepare(db, &ids->add,
                             "INSERT INTO ids(hash, seq) VALUES(?1, ?2) ON CONFLICT DO NOTHING");
    }
    if (e == OK) {
        e = store_db_prepare(db, &ids->slot, "SELECT seq FROM ids WHERE hash = ?1");
    }
    if (e == OK) {
        e = store_db_prepare(db, &ids->event,
                             "SELECT event_id, payload FROM events WHERE seq = ?1");
    }
    if (e == OK) {
        e = store_db_prepare(db, &ids->mark,
                             "SELECT event_id, payload_hash FROM marks WHERE seq = ?1");
    }
    if (e != OK) {
        store_ids_close(ids);
        return e;
    }
    *out = ids;
    return OK;
}

void
store_ids_close(struct store_ids *ids)
{
    if (ids == NULL) {
        return;
    }
    EVP_MAC_CTX_free(ids->siphash);
    sqlite3_finalize(ids->add);
    sqlite3_finalize(ids->slot);
    sqlite3_finalize(ids->event);
    sqlite3_finalize(ids->mark);
    free(ids);
}

enum err
store_ids_hash(struct store_ids *ids, int64_t *out, struct span bytes)
{
    uint64_t h = 0;
    size_t len = 0;
    if (EVP_MAC_init(ids->siphash, NULL, 0, NULL) != 1 ||
        EVP_MAC_update(ids->siphash, (const unsigned char *)bytes.at, bytes.len) != 1 ||
        EVP_MAC_final(ids->siphash, (unsigned char *)&h, &len, sizeof h) != 1 || len != sizeof h) {
        return ERR_NOMEM;
    }
    *out = (int64_t)(h >> (64 - STORE_IDS_HASH_BITS));
    return OK;
}

/* The slot after this one; wraps. */
static int64_t
after(int64_t slot)
{
    return (int64_t)((uint64_t)slot + 1);
}

/* Does the row behind `seq` in that table hold this id? Leaves the statement on its row if so. */
static enum err
row_holds(struct store_ids *ids, bool *holds, sqlite3_stmt *st, uint64_t seq, struct span id)
{
    bool row = false;
    *holds = false;
    sqlite3_reset(st);
    sqlite3_bind_int64(st, 1, (int64_t)seq);
    enum err e = store_db_step(ids->db, st, &row);
    if (e == OK && row) {
        struct span stored = {sqlite3_column_blob(st, 0), (size_t)sqlite3_column_bytes(st, 0)};
        *holds = span_eq(stored, id);
    }
    if (!*holds) {
        sqlite3_reset(st);
    }
    return e;
}

/* Fills *first if the event behind seq has this id; else leaves first->seq 0. */
static enum err
verify(struct store_ids *ids, struct store_first *first, uint64_t seq, struct span id)
{
    bool holds = false;
    enum err e = row_holds(ids, &holds, ids->event, seq, id);
    if (e == OK && holds) {
        *first = (struct store_first){
            .seq = seq,
            .has_payload = true,
            .payload = {sqlite3_column_blob(ids->event, 1),
                        (size_t)sqlite3_column_bytes(ids->event, 1)},
        };
        return OK;
    }
    if (e == OK) {
        e = row_holds(ids, &holds, ids->mark, seq, id);
    }
    if (e == OK && holds) {
        *first =
            (struct store_first){.seq = seq, .payload_hash = sqlite3_column_int64(ids->mark, 1)};
        sqlite3_reset(ids->mark);
    }
    return e;
}

/* The seq in a slot, 0 when it is free. */
static enum err
read_slot(struct store_ids *ids, uint64_t *seq, int64_t slot)
{
    bool row = false;
    sqlite3_bind_int64(ids->slot, 1, slot);
    enum err e = store_db_step(ids->db, ids->slot, &row);
    *seq = e == OK && row ? (uint64_t)sqlite3_column_int64(ids->slot, 0) : 0;
    sqlite3_reset(ids->slot);
    return e;
}

/* Walks from the id's hash until it meets the id, or a free slot, which *slot then names. */
static enum err
walk(struct store_ids *ids, struct store_first *first, int64_t *slot, struct span id)
{
    enum err e = OK;
    for (;; *slot = after(*slot)) {
        uint64_t seq = 0;
        e = read_slot(ids, &seq, *slot);
        if (e != OK || seq == 0) {
            return e;
        }
        e = verify(ids, first, seq, id);
        if (e != OK || first->seq != 0) {
            return e;
        }
    }
}

/* A statement that is left on a row holds its snapshot, and the WAL with it. */
void
store_ids_release(struct store_ids *ids)
{
    sqlite3_reset(ids->event);
}

enum err
store_ids_find(struct store_ids *ids, struct store_first *first, struct span id)
{
    int64_t slot = 0;
    store_ids_release(ids);
    *first = (struct store_first){0};
    enum err e = store_ids_hash(ids, &slot, id);
    return e == OK ? walk(ids, first, &slot, id) : e;
}

static enum err
insert(struct store_ids *ids, bool *added, int64_t slot, uint64_t seq)
{
    sqlite3_bind_int64(ids->add, 1, slot);
    sqlite3_bind_int64(ids->add, 2, (int64_t)seq);
    enum err e = store_db_run(ids->db, ids->add);
    *added = e == OK && sqlite3_changes(store_db_handle(ids->db)) == 1;
    return e;
}

enum err
store_ids_add(struct store_ids *ids, struct store_first *first, struct span id, uint64_t seq)
{
    int64_t slot = 0;
    bool added = false;
    store_ids_release(ids);
    *first = (struct store_first){0};
    enum err e = store_ids_hash(ids, &slot, id);
    if (e == OK) {
        e = insert(ids, &added, slot, seq);
    }
    if (e != OK || added) {
        return e;
    }
    e = walk(ids, first, &slot, id);
    if (e != OK || first->seq != 0) {
        return e;
    }
    e = insert(ids, &added, slot, seq);
    return e == OK && !added ? ERR_MISUSE : e;
}
