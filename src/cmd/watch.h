/* watch.h - one line an event on the terminal of `weir run`.
 * Contract: at most WATCH_LINES lines a second; what is more is summed up once a second. Silent where standard output is no terminal.
 * Threads:  watch_event on worker threads; the rest on the main thread, which prints. */
#ifndef WEIR_WATCH_H
#define WEIR_WATCH_H

#include "batch.h"

#define WATCH_LINES 20

struct watch;
struct watch *watch_open(int fd); /* NULL: out of memory */
void watch_event(void *watch, const struct delivery *d);
void watch_tick(struct watch *w,
                int64_t mono_ms);  /* prints what came; call it several times a second */
void watch_close(struct watch *w); /* prints the rest; NULL ok */

#endif
