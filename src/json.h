/* json.h - JSON read strictly (RFC 8259): a C face over simdjson.
 * Contract: json_read checks one whole text: syntax, UTF-8 (no lone surrogates either), nothing
 *           after it. Then json_next gives the members of its top object in order, duplicates
 *           included. Numbers are checked by their grammar only: any size and precision is good.
 * Threads:  a reader belongs to the thread that opened it.
 * Owns:     its tables, about 15 bytes for each byte of the largest text; they shrink again after
 *           JSON_SHRINK_AFTER small texts in a row. What it hands out is valid until the next
 *           json_read, and as long as the text.
 * Fails:    never throws. */
#ifndef WEIR_JSON_H
#define WEIR_JSON_H

#include "span.h"

#ifdef __cplusplus
extern "C" {
#endif

#define JSON_DEPTH_MAX 1024    /* of what json_read accepts at all */
#define JSON_SMALL_BYTES 16384 /* texts up to this size need no other tables than the first */
#define JSON_SHRINK_AFTER 256

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

enum json_result {
    JSON_OK,
    JSON_BAD_SYNTAX,
    JSON_BAD_UTF8,
    JSON_TOO_DEEP, /* deeper than JSON_DEPTH_MAX */
    JSON_NO_MEMORY,
};

struct json_member {
    struct span name; /* unescaped */
    enum json_type type;
    struct span text; /* STRING: unescaped. All else: as it stands in the text */
    unsigned depth;   /* 0 for what is neither object nor array, 1 for {} */
};

struct json_reader;
struct json_reader *json_open(void);    /* NULL: out of memory */
void json_close(struct json_reader *r); /* NULL ok */

/* 64 readable bytes must follow the text; what they hold does not matter. */
enum json_result json_read(struct json_reader *r, struct span text, enum json_type *top);
bool json_next(struct json_reader *r, struct json_member *out); /* false: no more, or no object */

/* What is wrong with a text that json_read refused (static), and where; NULL: it is JSON. Reads byte
 * by byte: for error messages. */
const char *json_explain(struct span text, size_t *offset);

#ifdef __cplusplus
}
#endif

#endif
