/* config.h - the effective configuration: flag, then environment, then file, then default.
 * Contract: config_load reads everything, checks every value (type, range, unit) and the rules
 *           between values, and says every error at once, each with where it stands (flag,
 *           variable, file:line), what was wrong and what was expected, before anything is
 *           started.
 * Threads:  read only after config_load.
 * Owns:     its strings; config_free ends it. */
#ifndef WEIR_CONFIG_H
#define WEIR_CONFIG_H

#include "config_table.h"
#include "buf.h"
#include "err.h"

#include <stdint.h>

enum config_type { CONFIG_TEXT, CONFIG_COUNT, CONFIG_SIZE, CONFIG_TIME, CONFIG_CHOICE };
enum config_source {
    CONFIG_FROM_DEFAULT,
    CONFIG_FROM_FILE,
    CONFIG_FROM_ENVIRONMENT,
    CONFIG_FROM_FLAG
};

/* Field types: TEXT and CHOICE char * (a CHOICE is one of its words), COUNT, SIZE (bytes) and TIME
 * (milliseconds) int64_t. */
#define CONFIG_FIELD_TEXT char *
#define CONFIG_FIELD_COUNT int64_t
#define CONFIG_FIELD_SIZE int64_t
#define CONFIG_FIELD_TIME int64_t
#define CONFIG_FIELD_CHOICE char *

enum config_row {
#define X(type, field, key, dflt, least, most, help) CONFIG_ROW_##field,
    CONFIG_TABLE(X)
#undef X
        CONFIG_ROWS
};

struct config {
#define X(type, field, key, dflt, least, most, help) CONFIG_FIELD_##type field;
    CONFIG_TABLE(X)
#undef X
    enum config_source source[CONFIG_ROWS];
    unsigned line[CONFIG_ROWS]; /* in the file, where that is the source */
    char *file;                 /* the configuration file's name; NULL: none was read */
};

/* One row of the table, for help, docs and check. All static. */
struct config_setting {
    enum config_type type;
    const char *key;
    const char *dflt;
    int64_t least;
    int64_t most;
    const char *help;
    size_t offset; /* of its field in struct config */
};
extern const struct config_setting config_settings[CONFIG_ROWS];

/* argv: the flags after the subcommand (--key value or --key=value; the last of equal ones counts).
 * Takes those it knows, and leaves what is not a flag, and all that follows --, in argv[0 … *argc)
 * for the subcommand; an unknown flag is an error with the nearest name suggested. --config FILE
 * (or WEIR_CONFIG) names the file; without it weir.conf in the working folder is read if it is
 * there. envp: NAME=value strings. ERR_CONFIG: *errors holds one line an error, each ended by \n;
 * ERR_NOMEM: it may not. On failure *cfg is empty, and config_free may still be called. */
enum err config_load(struct config *cfg, int *argc, char **argv, char *const *envp,
                     struct buf *errors) MUST_CHECK;
void config_free(struct config *cfg); /* of a zeroed one too */
/* "key = value   # source" a line, in the form of weir.conf, with units and passwords in URLs as
 * ***. */
void config_print(struct buf *out, const struct config *cfg);

/* What config_print adds at its end: a line "# note: …" about each combination that is allowed but
 * promises less. */
void config_add_notes(struct buf *out, const struct config *cfg);
/* A URL with its passwords as ***, for logs and messages; cut where it does not fit. Gives `out`. */
const char *config_mask(char *out, size_t size, const char *url);

/* HELP: the flags, for a terminal. CONF: an example of weir.conf. MARKDOWN: a table. MAN: the
 * OPTIONS section of the man page. */
enum config_doc { CONFIG_DOC_HELP, CONFIG_DOC_CONF, CONFIG_DOC_MARKDOWN, CONFIG_DOC_MAN };
void config_document(struct buf *out, enum config_doc form);
/* Plain text for a man page, where a backslash escapes and a bare - may become a hyphen that no
 * shell understands. */
void config_add_roff(struct buf *out, const char *text);

#endif
