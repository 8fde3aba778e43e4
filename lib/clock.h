/* clock.h - the system's clocks and RFC 3339. Only lib/env.c, the bench and the client commands
 * read a clock directly.
 * Threads:  any. */
#ifndef WEIR_CLOCK_H
#define WEIR_CLOCK_H

#include "span.h"

#include <stdint.h>

int64_t clock_wall_ms(void); /* Unix time in milliseconds */
int64_t clock_mono_ns(void); /* CLOCK_MONOTONIC in nanoseconds */

#define CLOCK_RFC3339_MAX 32
/* Writes "2026-02-03T12:30:00.123Z" and a NUL; returns its length. */
size_t clock_format_rfc3339(char out[CLOCK_RFC3339_MAX], int64_t wall_ms);

/* RFC 3339 section 5.6: a real date and time with an offset. Milliseconds since 1970 in *out (finer
 * digits dropped). A second of 60 is accepted only at 23:59:60 UTC (a leap second) and counts as
 * the first instant of the next day. Returns NULL, or what was wrong (static text). */
const char *clock_parse_rfc3339(struct span text, int64_t *out);

#endif
