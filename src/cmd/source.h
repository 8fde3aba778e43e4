/* source.h - the events of a file, one after the other, as text.
 * Contract: NDJSON (one event a line, blank lines skipped), one JSON array, or one object over
 *           several lines. The events themselves are not validated: the server does that.
 * Bounds:   NDJSON streams, SOURCE_LINE_MAX bytes a line; an array is held whole, at most
 *           SOURCE_ARRAY_MAX bytes.
 * Threads:  one owner; reading blocks.
 * Owns:     the file and its memory. */
#ifndef WEIR_SOURCE_H
#define WEIR_SOURCE_H

#include "err.h"
#include "span.h"

#include <stdbool.h>
#include <stdint.h>

#define SOURCE_LINE_MAX ((size_t)16 * 1024 * 1024) /* as event.max_bytes at its most */
#define SOURCE_ARRAY_MAX ((size_t)64 * 1024 * 1024)
#define SOURCE_WHY_MAX 256

struct source_item {
    struct span text;    /* valid until the next call; of an array's, line breaks are spaces */
    uint64_t line;       /* where it begins, from 1 */
    const char *problem; /* why it cannot be sent (static), or NULL */
};

struct source;
/* path "-" is standard input. */
enum err source_open(struct source **out, const char *path, char why[SOURCE_WHY_MAX]) MUST_CHECK;
void source_close(struct source *s); /* NULL ok */
/* ERR_NOT_FOUND: there is no more. ERR_IO: reading failed, and errno says why. */
enum err source_next(struct source *s, struct source_item *item) MUST_CHECK;
/* Bytes handed out so far, and of the whole file (0: not known). */
void source_progress(const struct source *s, uint64_t *done, uint64_t *total);

#endif
