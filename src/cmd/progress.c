#include "cmd/progress.h"

#include "clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAW_EVERY_NS 100000000
#define BAR_WIDTH 30

void
progress_open(struct progress *p)
{
    *p = (struct progress){.on = isatty(STDERR_FILENO) == 1, .began_ns = clock_mono_ns()};
}

static void
draw_bar(uint64_t done, uint64_t total)
{
    char bar[BAR_WIDTH + 1];
    unsigned filled = (unsigned)(done >= total ? BAR_WIDTH : done * BAR_WIDTH / total);
    memset(bar, ' ', BAR_WIDTH);
    memset(bar, '#', filled);
    bar[BAR_WIDTH] = '\0';
    fprintf(stderr, "[%s] %3u%%  ", bar, (unsigned)(done >= total ? 100 : done * 100 / total));
}

void
progress_show(struct progress *p, uint64_t count, uint64_t done, uint64_t total)
{
    if (!p->on) {
        return;
    }
    int64_t now = clock_mono_ns();
    if (now - p->drawn_ns < DRAW_EVERY_NS) {
        return;
    }
    p->drawn_ns = now;
    p->drawn = true;
    fputs("\r\033[K", stderr);
    if (total > 0) {
        draw_bar(done, total);
    }
    double seconds = (double)(now - p->began_ns) / 1e9;
    fprintf(stderr, "%" PRIu64 " events  %.0f/s", count,
            seconds > 0.05 ? (double)count / seconds : 0.0);
    fflush(stderr);
}

void
progress_note(struct progress *p, const char *note)
{
    if (p->on) {
        fprintf(stderr, "\r\033[K%s: trying again", note);
        fflush(stderr);
        p->drawn = true;
        p->drawn_ns = 0;
    }
}

void
progress_clear(struct progress *p)
{
    if (p->drawn) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
        p->drawn = false;
    }
}
