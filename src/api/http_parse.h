/* http_parse.h - HTTP/1.1 requests from bytes: strict, pure, incremental (RFC 9112, RFC 9110).
 * Contract: feeding the same bytes in any split gives the same requests and the same error at the
 *           same byte. Whatever could be read in two ways is an error: the caller answers with
 *           `status` and closes. No input makes it read outside what it is given.
 * Happy path:http_parser_init; http_parse(p, bytes) again and again; each call consumes some
 *           bytes and says what it needs.
 * Threads:  pure; a parser belongs to its connection.
 * Owns:     nothing but its head buffer (bounded by HTTP_HEAD_MAX) and body buffer (bounded by
 *           max_body); http_parser_fini frees both. An idle parser (between requests) holds no
 *           memory on the heap. */
#ifndef WEIR_HTTP_PARSE_H
#define WEIR_HTTP_PARSE_H

#include "buf.h"
#include "span.h"

#include <stdint.h>

#define HTTP_HEAD_MAX                                                                              \
    16384 /* bytes of request line and header fields together; beyond: 431 (414 for the target) */
#define HTTP_TARGET_MAX 8192
#define HTTP_FIELDS_MAX 64

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_OTHER /* well-formed, but none of ours: 501 or 405 by the route table */
};

struct http_field {
    struct span name;
    struct span value; /* without the white space around it */
};

struct http_request {
    enum http_method method;
    struct span method_name;
    struct span path;  /* percent-decoded, begins with '/', no NUL; of an absolute-form target its
                          path part */
    struct span query; /* as it came, without '?' */
    int version;       /* 0: HTTP/1.0, 1: HTTP/1.1 */
    bool keep_alive;   /* what the request asks for */
    bool expect_continue;
    const struct http_field *fields;
    size_t n_fields;
    struct span body; /* BUF_SLACK readable bytes follow */
};

enum http_parse_result {
    HTTP_MORE,    /* all consumed, more is needed */
    HTTP_HEADERS, /* the head is complete and a body follows: look at request, then go on
                     (100-continue, in-flight limits, early 413/415) */
    HTTP_REQUEST, /* a whole request: p->request is valid until http_parser_next */
    HTTP_ERROR,   /* answer p->status with p->error, then close */
};

struct http_parser;

struct http_parser *
http_parser_open(size_t max_body); /* NULL: out of memory. Small: about 256 bytes while idle */
void http_parser_close(struct http_parser *p); /* NULL ok */
/* Consumes bytes from *in (moves in->at forward). Stops at HTTP_HEADERS and HTTP_REQUEST with the
 * rest left in *in. */
enum http_parse_result http_parse(struct http_parser *p, struct span *in);
const struct http_request *
http_parser_request(const struct http_parser *p); /* after HTTP_HEADERS or HTTP_REQUEST */
int http_parser_status(
    const struct http_parser *p); /* after HTTP_ERROR: 400, 413, 414, 431, 501, 505 */
const char *
http_parser_error(const struct http_parser *p); /* after HTTP_ERROR: static text: what was wrong */
bool http_parser_idle(const struct http_parser *p);    /* no byte of a next request has been seen */
bool http_parser_in_body(const struct http_parser *p); /* the head is complete, the body is not */
uint64_t http_parser_body_bytes(
    const struct http_parser *p); /* memory held for the body now: for the in-flight bound */
void
http_parser_next(struct http_parser *p); /* forget the request: frees or shrinks what it held */

/* The value of the first field of that name (without case), or an empty span with at NULL. */
struct span http_request_field(const struct http_request *r, const char *name);

/* One parameter of a query string, percent- and plus-decoded into out (size bytes, NUL-ended). 1:
 * found, 0: absent, -1: does not fit, is given twice, or has a bad escape. */
int http_query_get(struct span query, const char *name, char *out, size_t size);

#endif
