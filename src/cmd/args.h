/* args.h - the flags of a client command, by a table.
 * Contract: args_take takes --name value, --name=value and switches out of argv and leaves the
 *           rest, in order; what follows "--" is left alone, and so is "-". A wrong flag is one
 *           line on standard error that says what was expected. --help prints the usage.
 * Threads:  the main thread. */
#ifndef WEIR_ARGS_H
#define WEIR_ARGS_H

#include <stdbool.h>
#include <stdint.h>

enum arg_type {
    ARG_TEXT,   /* const char ** */
    ARG_COUNT,  /* int64_t *, within least and most */
    ARG_TIME,   /* int64_t *, milliseconds: 50ms, 10s, 5m, 1h; a bare number is seconds */
    ARG_SWITCH, /* bool * */
};

struct arg {
    const char *name; /* with its dashes; NULL ends the table */
    enum arg_type type;
    void *to;
    int64_t least;
    int64_t most;
};

enum args_result { ARGS_OK, ARGS_HELP, ARGS_WRONG };

enum args_result args_take(const struct arg *table, const char *usage, int *argc, char **argv);
/* The exit code after a result that is not ARGS_OK. */
static inline int
args_exit(enum args_result r)
{
    return r == ARGS_HELP ? 0 : 2;
}

#endif
