/* span.h - bytes with their length, borrowed.
 * Owns:     nothing; a span is valid as long as what it points into.
 * Threads:  pure. */
#ifndef WEIR_SPAN_H
#define WEIR_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct span {
    const char *at;
    size_t len;
};

#define SPAN(literal) ((struct span){(literal), sizeof(literal) - 1})
/* for printf("%.*s") */
#define SPAN_FMT(s) (int)(s).len, (s).at

static inline struct span
span_of(const char *text)
{
    return (struct span){text, strlen(text)};
}

static inline bool
span_eq(struct span a, struct span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

/* ASCII letters compare without case, as HTTP field names and tokens do. */
bool span_eq_nocase(struct span a, struct span b);

#endif
