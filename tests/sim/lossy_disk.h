/* lossy_disk.h - the model behind lossy.h: what of each file is on the disk for certain, and what may
 * be. Knows nothing of SQLite.
 * Contract: every call but start stands between enter and leave. operation() comes first in each
 *           write, cut, sync and removal: it is where the power may fail, and then it does not
 *           return.
 * Threads:  any, by enter and leave. */
#ifndef WEIR_TEST_LOSSY_DISK_H
#define WEIR_TEST_LOSSY_DISK_H

#include "lossy.h"

#include <stddef.h>

struct disk_file;

void lossy_disk_start(const struct lossy_plan *plan);
void lossy_disk_enter(void);
void lossy_disk_leave(void);
void lossy_disk_operation(void);

/* What is on the disk when a file is first seen counts as synced. */
struct disk_file *lossy_disk_follow(const char *path);
void lossy_disk_opened(struct disk_file *f);
void lossy_disk_write(struct disk_file *f, size_t offset, const void *bytes, size_t len);
void lossy_disk_cut(struct disk_file *f, size_t len);
void lossy_disk_sync(struct disk_file *f);
void lossy_disk_remove(const char *path);
/* Names that are there stay, names that were removed are gone. All files lie in one folder. */
void lossy_disk_sync_folder(void);

#endif
