/* store_lock.h - a data folder belongs to one process.
 * Contract: private to store/. Makes the folder if it is missing. The lock is the kernel's (flock on FOLDER/lock) and ends with the
 *           process, however that ends; the file names the holder's process id for people. */
#ifndef WEIR_STORE_LOCK_H
#define WEIR_STORE_LOCK_H

#include "err.h"

#include <stddef.h>

enum err store_lock_take(int *fd, const char *folder, char *why, size_t why_size) MUST_CHECK;
void store_lock_drop(int fd); /* -1 ok */

#endif
