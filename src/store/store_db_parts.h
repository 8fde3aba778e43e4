/* store_db_parts.h - the inside of a connection, for store_db.c (open, transactions, errors) and
 * store_rows.c (what is put in and taken out). Private to those two.
 * Threads: the connection's. */
#ifndef WEIR_STORE_DB_PARTS_H
#define WEIR_STORE_DB_PARTS_H

#include "store/store_db.h"
#include "store/store_schema.h"

#include <sqlite3.h>

struct store_db {
    sqlite3 *db;
    struct env *env;
    enum store_db_mode mode;
    char failure[160]; /* what SQLite said last */
    int wal_pages;     /* of the WAL after the last commit */
    unsigned char id_key[STORE_ID_KEY_BYTES];
    sqlite3_stmt *begin, *commit, *rollback, *probe, *probe_end;
    sqlite3_stmt *queue_add, *queue_remove, *queue_read, *queue_oldest;
    sqlite3_stmt *event_add, *mark_add, *dead_add;
};

#endif
