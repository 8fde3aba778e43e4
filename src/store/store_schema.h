/* store_schema.h - the tables of the local store: made, upgraded and checked when it is opened.
 * Contract: private to store/. The version stands in PRAGMA user_version; each step from one version to the next is one transaction.
 *           A file of a later version, or of another program, is refused and left as it was.
 * Threads:  the opening one. */
#ifndef WEIR_STORE_SCHEMA_H
#define WEIR_STORE_SCHEMA_H

#include "buf.h"
#include "err.h"

struct env;
struct sqlite3;

#define STORE_ID_KEY_BYTES 16

/* Is the file empty or ours, of a version that is known? Reads only. */
enum err store_schema_recognize(struct sqlite3 *db, struct buf *why) MUST_CHECK;
/* Creates or upgrades, then checks the file if the last stop was not clean, then notes that it is in use.
 * Not OK: why says what is the matter, where there is more to say than SQLite does. */
enum err store_schema_prepare(struct sqlite3 *db, struct env *env, struct buf *why) MUST_CHECK;
enum err store_schema_id_key(struct sqlite3 *db, unsigned char out[STORE_ID_KEY_BYTES]) MUST_CHECK;
/* Best effort: when it fails, the next start checks the file once more. */
void store_schema_note_clean(struct sqlite3 *db);

#endif
