/* config_parts.h - what the files of the configuration share; nobody else includes it.
 * Threads: pure, all of it. */
#ifndef WEIR_CONFIG_PARTS_H
#define WEIR_CONFIG_PARTS_H

#include "config.h"

/* A setting has three spellings: http.max_body, --http-max-body, WEIR_HTTP_MAX_BODY. */
enum config_spelling { CONFIG_AS_KEY, CONFIG_AS_FLAG, CONFIG_AS_VARIABLE };
#define CONFIG_NAME_MAX 64
/* Row CONFIG_ROWS stands for --config and WEIR_CONFIG, which have no key. */
void config_spell(char out[CONFIG_NAME_MAX], enum config_spelling as, enum config_row row);
/* The row of that name, or CONFIG_ROWS; nearest: the row of the most similar name, or -1. */
enum config_row config_find(enum config_spelling as, struct span name);
int config_nearest(enum config_spelling as, struct span name);

/* COUNT, SIZE and TIME. Returns NULL, or what is wrong with it: "is not a size" (static). */
const char *config_parse_number(int64_t *out, enum config_type type, struct span text);
/* In the largest unit that leaves no rest: 256KiB, 90s. */
void config_add_number(struct buf *out, enum config_type type, int64_t value);
/* Word number n of a CHOICE, or an empty span after the last. */
struct span config_word(const struct config_setting *s, size_t n);
/* "a size from 1KiB to 64MiB", "info, debug, warn or error" */
void config_add_expected(struct buf *out, const struct config_setting *s);

/* The user's own text for a message or a page: passwords in URLs as ***, control characters as ?,
 * at most CONFIG_SHOWN_MAX bytes. */
#define CONFIG_SHOWN_MAX 2048
void config_add_shown(struct buf *out, struct span text);
/* "weir.conf:3", "WEIR_LISTEN", "--listen" or "default" */
void config_add_source(struct buf *out, const struct config *cfg, enum config_row row);

/* The value as the file would write it; passwords as ***. */
void config_add_value(struct buf *out, const struct config *cfg, enum config_row row);
void *config_field(const struct config *cfg, enum config_row row);

/* Where a value stands: as config's source[] and line[]. */
struct config_place {
    enum config_source source;
    unsigned line;
};

/* What config_load carries. */
struct config_load {
    struct config *cfg;
    struct buf *errors;
    size_t errors_count;
    bool bad[CONFIG_ROWS];      /* has an error */
    unsigned seen[CONFIG_ROWS]; /* line of the file that set it */
    bool nomem;
};

void config_set_defaults(struct config_load *l);
/* Each call overrides the ones before; a value that cannot be used becomes an error. */
void config_set(struct config_load *l, enum config_row row, struct span text,
                struct config_place p);
/* "weir.conf:3: WHAT: WHY"; a name that is no setting's, with the nearest that is. */
void config_refuse(struct config_load *l, struct config_place p, struct span what, const char *why);
void config_refuse_name(struct config_load *l, struct config_place p, struct span name);
void config_end_errors(struct config_load *l); /* counts those that were not written */

/* What a TEXT value of this row may be, beyond its length. Returns NULL, or what is wrong and what
 * was expected (static). */
const char *config_check_text(enum config_row row, struct span text);
/* The part of it that is about addresses and URLs; NULL for rows that are neither. */
const char *config_check_address(enum config_row row, struct span text);
/* The rules between values: adds a line for each that is broken, but is silent about rows that
 * have an error of their own; and sets what follows from another value. */
void config_check_rules(struct buf *errors, struct config *cfg, const bool *bad);

#endif
