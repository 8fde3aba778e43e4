/* print.h - writes a whole text to standard output; a failure there is the command's failure. */
#ifndef WEIR_PRINT_H
#define WEIR_PRINT_H

#include "buf.h"

#include <errno.h>
#include <stdio.h>

/* Frees the text. Returns the exit code, 0 or 1. */
static inline int
print_and_free(struct buf *text)
{
    bool written =
        buf_ok(text) && fwrite(text->at, 1, text->len, stdout) == text->len && fflush(stdout) == 0;
    if (!written) {
        fprintf(stderr, "weir: standard output: %s\n", strerror(buf_ok(text) ? errno : ENOMEM));
    }
    buf_fini(text);
    return written ? 0 : 1;
}

/* After text was printed piece by piece: the exit code, or 1 where some of it was lost. */
static inline int
print_end(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return code;
    }
    fprintf(stderr, "weir: standard output: %s\n", strerror(errno));
    return 1;
}

#endif
