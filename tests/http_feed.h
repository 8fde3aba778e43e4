/* http_feed.h - gives bytes to a request parser in pieces and writes down all it says.
 * Contract: each piece is memory of its own, exactly as long as it is, destroyed as soon as the
 *           parser's contract allows: what reads past it or keeps pointing into it shows. Two
 *           feeds of the same bytes must write the same text.
 * Owns:     nothing; the text is the caller's buf. */
#ifndef WEIR_TEST_HTTP_FEED_H
#define WEIR_TEST_HTTP_FEED_H

#include "api/http_parse.h"

#include <assert.h>
#include <stdlib.h>

/* How long the next piece is, of `left` bytes; 0 is taken as 1. */
typedef size_t http_piece(void *data, size_t left);

struct http_fed {
    struct buf text;
    size_t requests;
    int status; /* 0: no error */
    const char *error;
    size_t consumed;
};

static inline void
http_fed_write_request(struct http_fed *fed, const char *what, const struct http_request *r)
{
    assert(r->path.at[0] == '/' || span_eq(r->path, SPAN("*")));
    assert(memchr(r->path.at, '\0', r->path.len) == NULL);
    assert(memchr(r->fields.at, '\0', r->fields.len + 2) == NULL);
    buf_addf(&fed->text, "%s %d %.*s %.*s ?%.*s 1.%d%s%s%s expected=%llu body=%zu:", what,
             (int)r->method, SPAN_FMT(r->method_name), SPAN_FMT(r->path), SPAN_FMT(r->query),
             r->version, r->keep_alive ? " keep" : " close", r->expect_continue ? " expect" : "",
             r->has_length ? " length" : "", (unsigned long long)r->body_expected, r->body.len);
    buf_add_span(&fed->text, r->body);
    buf_add_text(&fed->text, "\nfields=");
    buf_add_span(&fed->text, r->fields);
    char type[16] = "";
    int found = http_query_get(r->query, "type", type, sizeof type);
    struct span host = http_request_field(r, "host");
    buf_addf(&fed->text, "\nhost=%.*s type=%d:%s\n", SPAN_FMT(host), found, type);
}

/* Everything the parser says about one piece; false after an error. */
static inline bool
http_fed_piece(struct http_fed *fed, struct http_parser *p, struct span piece)
{
    struct span in = piece;
    for (;;) {
        size_t before = in.len;
        enum http_parse_result result = http_parse(p, &in);
        fed->consumed += before - in.len;
        assert(in.at + in.len == piece.at + piece.len);
        if (result == HTTP_ERROR) {
            fed->status = http_parser_status(p);
            fed->error = http_parser_error(p);
            buf_addf(&fed->text, "error %d %s at %zu\n", fed->status, fed->error, fed->consumed);
            return false;
        }
        if (result == HTTP_MORE) {
            assert(in.len == 0);
            return true;
        }
        bool whole = result == HTTP_REQUEST;
        http_fed_write_request(fed, whole ? "request" : "headers", http_parser_request(p));
        assert(http_parser_in_body(p) == !whole);
        if (whole) {
            fed->requests++;
            http_parser_next(p);
            assert(http_parser_idle(p) && http_parser_body_bytes(p) == 0);
        }
    }
}

/* Free with buf_fini(&fed.text). */
static inline struct http_fed
http_feed(struct span bytes, size_t max_body, http_piece *next_piece, void *data)
{
    struct http_fed fed = {.error = ""};
    struct http_parser *p = http_parser_open(max_body);
    assert(p != NULL);
    bool going = true;
    for (size_t at = 0; going && at < bytes.len;) {
        size_t len = next_piece(data, bytes.len - at);
        len = len == 0 ? 1 : len > bytes.len - at ? bytes.len - at : len;
        char *piece = malloc(len);
        assert(piece != NULL);
        memcpy(piece, bytes.at + at, len);
        going = http_fed_piece(&fed, p, (struct span){piece, len});
        memset(piece, '#', len);
        free(piece);
        at += len;
        assert(http_parser_body_bytes(p) <= max_body);
        assert(http_parser_body_bytes(p) <= 16384 + 2 * at);
    }
    buf_addf(&fed.text, "end%s%s\n", going && http_parser_idle(p) ? " idle" : "",
             http_parser_in_body(p) ? " in body" : "");
    http_parser_close(p);
    assert(buf_ok(&fed.text));
    return fed;
}

#endif
