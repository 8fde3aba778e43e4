/* http_parse.h - HTTP/1.1 requests from bytes: strict, pure, incremental (RFC 9112, RFC 9110).
 * Contract: feeding the same bytes in any split gives the same requests and the same error at the
 *           same byte. Whatever could be read in two ways is an error: the caller answers with
 *           the status and closes. No input makes it read outside what it is given.
 * Happy path:http_parser_open; then http_parse(p, bytes) again and again: each call consumes some
 *           bytes and says what it needs. After HTTP_REQUEST: answer, http_parser_next, go on with
 *           the bytes that are left.
 * Input:    at least BUF_SLACK readable bytes must follow every span given to http_parse (a body
 *           that lies whole in the input is handed on where it is, and JSON parsers read past
 *           the end).
 * Lifetime: the request's spans may point into the input. The input's memory must stay as it is
 *           - after HTTP_HEADERS: until http_parse has been called again with the rest, even when
 *             the rest is empty. If that call says HTTP_MORE, all that is needed has been copied,
 *             the memory is free for reuse, and spans taken before are stale: take them from
 *             http_parser_request again;
 *           - after HTTP_REQUEST: until http_parser_next. That ends the spans in any case.
 *           After HTTP_MORE nothing points into the input.
 * Threads:  pure; a parser belongs to its connection.
 * Owns:     a copy of the head where it came in pieces (at most HTTP_HEAD_MAX) and the body where
 *           it came in pieces or chunks (at most max_body, and at most twice what has arrived or
 *           16 KiB). http_parser_next frees both: an idle parser is one small block. A request
 *           that comes whole in one input without chunks or '%' in its path allocates nothing. */
#ifndef WEIR_HTTP_PARSE_H
#define WEIR_HTTP_PARSE_H

#include "buf.h"
#include "span.h"

#include <stdint.h>

#define HTTP_HEAD_MAX 16384         /* request line and fields with their line ends; beyond: 431 */
#define HTTP_TARGET_MAX 8192        /* beyond: 414 */
#define HTTP_METHOD_MAX 32          /* beyond: 501 */
#define HTTP_FIELDS_MAX 64          /* beyond: 431 */
#define HTTP_CHUNK_EXT_MAX 256      /* bytes of chunk extensions in a message; beyond: 400 */
#define HTTP_TRAILERS_MAX 16        /* beyond: 431. Trailers are checked and thrown away */
#define HTTP_TRAILER_BYTES_MAX 4096 /* beyond: 431 */

enum http_method {
    HTTP_GET,
    HTTP_HEAD,
    HTTP_POST,
    HTTP_OTHER /* well-formed, but none of ours: 501 or 405 by the route table */
};

struct http_request {
    enum http_method method;
    int version; /* 0: HTTP/1.0, 1: HTTP/1.1 */
    struct span method_name;
    struct span path;  /* percent-decoded, begins with '/', no NUL; of an absolute-form target its
                          path part; "*" of OPTIONS as it is */
    struct span query; /* as it came, without '?' */
    bool keep_alive;   /* what the request asks for */
    bool expect_continue;
    bool has_length;        /* it said how long its body is: a POST that did not may get 411 */
    uint64_t body_expected; /* what Content-Length says; 0 where there is none or for chunks */
    struct span fields;     /* the checked field lines, each with its CRLF: http_request_field */
    struct span body;       /* BUF_SLACK readable bytes follow; empty until HTTP_REQUEST */
};

enum http_parse_result {
    HTTP_MORE,    /* all consumed, more is needed */
    HTTP_HEADERS, /* the head is complete and a body follows: look at the request, then go on
                     (100-continue, in-flight limits, early 413/415). Said even when the body is in
                     the input already */
    HTTP_REQUEST, /* a whole request, valid until http_parser_next. Do not parse before that */
    HTTP_ERROR,   /* answer with http_parser_status and _error, then close. Sticky */
};

struct http_parser;

/* NULL: out of memory. About 300 bytes. max_body in bytes: more is 413. */
struct http_parser *http_parser_open(size_t max_body);
void http_parser_close(struct http_parser *p); /* NULL ok */

/* Consumes bytes from *in (moves in->at forward). Stops at HTTP_HEADERS and HTTP_REQUEST with the
 * rest left in *in; HTTP_ERROR leaves what follows the byte that was wrong. */
enum http_parse_result http_parse(struct http_parser *p, struct span *in);
void http_parser_next(struct http_parser *p); /* forget the request and free what it held */

/* After HTTP_HEADERS or HTTP_REQUEST (and HTTP_MORE between the two). */
const struct http_request *http_parser_request(const struct http_parser *p);
/* After HTTP_ERROR: 400, 413, 414, 417, 431, 501, 505, or 503 where memory ran out. */
int http_parser_status(const struct http_parser *p);
const char *http_parser_error(const struct http_parser *p); /* static text: what was wrong */

/* No byte of a next request has been seen (one empty line before it does not count). */
bool http_parser_idle(const struct http_parser *p);
bool http_parser_in_body(const struct http_parser *p); /* the head is complete, the body is not */
/* Memory held for the body now: for the in-flight bound. */
uint64_t http_parser_body_bytes(const struct http_parser *p);

/* The value of the first field of that name (without case), without white space around it; a span
 * with at NULL where there is none. */
struct span http_request_field(const struct http_request *r, const char *name);

/* One parameter of a query string, percent- and plus-decoded into out (size bytes, NUL-ended). 1:
 * found, 0: absent, -1: does not fit, is given twice, has a bad escape or a NUL. */
int http_query_get(struct span query, const char *name, char *out, size_t size);

#endif
