/* lossy.h - a disk that can lose its power: an SQLite VFS over the real one that remembers what was
 * written since the last sync of each file, and can take it back.
 * Model:    what was synced stays. Of what was written (or cut, or removed without a sync of the
 *           folder) since then, any subset may have reached the disk, sector by sector, in any
 *           order. A file that was never synced may be gone. The shared-memory index holds rubbish
 *           afterwards.
 * Threads:  any, as SQLite uses it. One such disk a process.
 * Owns:     copies of all files it saw, in memory: for small databases. */
#ifndef WEIR_TEST_LOSSY_H
#define WEIR_TEST_LOSSY_H

#include <stdbool.h>
#include <stdint.h>

struct lossy_counts {
    int operations;   /* writes, cuts, syncs, removals */
    int wal_restarts; /* the WAL was written from its beginning again: a checkpoint came before */
};

struct lossy_plan {
    uint64_t seed;         /* of which writes survive */
    int countdown;         /* the power fails before this operation, counted from 0; < 0: never */
    void (*end)(int code); /* then ends the process at once, … */
    int exit_code;         /* … with this */
    bool forgets_wal;      /* planted bug: a sync of the WAL answers OK and does nothing */
    struct lossy_counts *counts; /* borrowed; may be memory shared with another process */
};

/* Registers it as SQLite's default. False: SQLite did not take it. */
bool lossy_install(const struct lossy_plan *plan);

#endif
