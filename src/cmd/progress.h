/* progress.h - a progress line on standard error, if that is a terminal; else nothing.
 * Bounds:   at most ten drawings a second.
 * Threads:  the main thread. */
#ifndef WEIR_PROGRESS_H
#define WEIR_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    bool on;
    bool drawn;
    int64_t began_ns;
    int64_t drawn_ns;
};

void progress_open(struct progress *p);
/* count: events; done of total bytes (total 0: not known). */
void progress_show(struct progress *p, uint64_t count, uint64_t done, uint64_t total);
/* Shows a word at the line's end at once; forgotten with the next drawing. */
void progress_note(struct progress *p, const char *note);
/* Takes the line away, so that other text can be printed. */
void progress_clear(struct progress *p);

#endif
