/* http_head.h - private to the parser: the head and the chunks of a request, as facts and faults.
 * Contract: the readers keep offsets, never pointers, so that the bytes may move between calls.
 *           What they say depends on the bytes only, not on how these were split.
 * Threads:  pure. Owns: nothing. */
#ifndef WEIR_HTTP_HEAD_H
#define WEIR_HTTP_HEAD_H

#include "api/http_parse.h"

/* Every way a request can be wrong: code, status, text. */
/* clang-format off */
#define HTTP_FAULT_MAP(X)                                                                          \
    X(FAULT_NONE, 0, "")                                                                           \
    X(FAULT_MEMORY, 503, "out of memory")                                                          \
    X(FAULT_CONTROL, 400, "control character in the head")                                         \
    X(FAULT_BARE_CR, 400, "carriage return without line feed")                                     \
    X(FAULT_BARE_LF, 400, "line feed without carriage return")                                     \
    X(FAULT_REQUEST_LINE, 400, "the request line is not \"METHOD target HTTP/1.1\"")               \
    X(FAULT_METHOD_LONG, 501, "the method is not known here")                                      \
    X(FAULT_VERSION, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here")                            \
    X(FAULT_TARGET, 400, "the request target is not valid")                                        \
    X(FAULT_ESCAPE, 400, "bad percent-encoding in the path")                                       \
    X(FAULT_TARGET_LONG, 414, "the request target is too long")                                    \
    X(FAULT_HEAD_LARGE, 431, "the request head is too large")                                      \
    X(FAULT_FIELDS_MANY, 431, "too many header fields")                                            \
    X(FAULT_FOLDED, 400, "header line begins with white space")                                    \
    X(FAULT_FIELD_NAME, 400, "a header line must begin with a name and a colon")                   \
    X(FAULT_HOST_MISSING, 400, "Host is missing")                                                  \
    X(FAULT_HOST_TWICE, 400, "Host is given twice")                                                \
    X(FAULT_HOST, 400, "Host is not valid")                                                        \
    X(FAULT_LENGTH, 400, "Content-Length is not a number")                                         \
    X(FAULT_LENGTH_TWICE, 400, "Content-Length is given twice")                                    \
    X(FAULT_LENGTH_AND_CODING, 400, "both Content-Length and Transfer-Encoding")                   \
    X(FAULT_CODING, 400, "Transfer-Encoding is not valid")                                         \
    X(FAULT_CODING_OLD, 400, "Transfer-Encoding in an HTTP/1.0 request")                           \
    X(FAULT_CODING_LAST, 400, "the last transfer coding must be chunked")                          \
    X(FAULT_CODING_UNKNOWN, 501, "no transfer coding but chunked is known here")                   \
    X(FAULT_EXPECT, 417, "only 100-continue can be expected here")                                 \
    X(FAULT_BODY_LARGE, 413, "the body is too large")                                              \
    X(FAULT_CHUNK_SIZE, 400, "bad chunk size")                                                     \
    X(FAULT_CHUNK_EXTENSION, 400, "bad or too long chunk extensions")                              \
    X(FAULT_CHUNK_END, 400, "a chunk must end with its line end")                                  \
    X(FAULT_TRAILER, 400, "bad trailer field")                                                     \
    X(FAULT_TRAILERS_LARGE, 431, "the trailer fields are too many or too large")
/* clang-format on */

enum http_fault {
#define X(code, status, text) code,
    HTTP_FAULT_MAP(X)
#undef X
};

/* Offsets count from the first byte of the request line and fit: HTTP_HEAD_MAX < 2^16. */
struct http_head {
    uint16_t scan_at; /* bytes read so far; after a fault, up to and with the wrong byte */
    uint16_t line_at; /* where the unfinished line begins */
    uint16_t method_len;
    uint16_t path_at;
    uint16_t path_len; /* 0: an absolute-form target without a path, which means "/" */
    uint16_t query_at;
    uint16_t query_len;
    uint16_t fields_at;
    uint16_t fields_len;
    uint8_t n_fields;
    uint8_t version;
    bool complete : 1;
    bool path_escaped : 1;
    bool has_host : 1;
    bool has_length : 1;
    bool has_coding : 1;
    bool chunked : 1;        /* chunked was among the codings */
    bool chunked_inside : 1; /* and another followed it */
    bool coding_unknown : 1;
    bool close : 1;
    bool keep_alive : 1;
    bool expect_continue : 1;
    bool expect_other : 1;
    uint64_t content_length;
};

/* http_head.c. Reads on in the head that begins at text.at: to its end (complete is set, scan_at
 * is its length), to a fault, or to the end of text. */
enum http_fault http_head_read(struct http_head *h, struct span text) MUST_CHECK;
/* http_field.c: one field line without its CRLF, and what all fields together mean. */
enum http_fault http_field_read(struct http_head *h, struct span line) MUST_CHECK;
enum http_fault http_field_check(const struct http_head *h, size_t max_body) MUST_CHECK;

enum http_chunk_state {
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_NAME,
    CHUNK_TRAILER_VALUE,
    CHUNK_TRAILER_LF,
    CHUNK_END_LF,
    CHUNK_END
};

struct http_chunks {
    enum http_chunk_state state;
    uint8_t digits; /* of the size that is being read */
    uint8_t n_trailers;
    uint16_t extension_bytes;
    uint16_t trailer_bytes;
    uint64_t left; /* the size that is being read, then the bytes of the chunk still to come */
    uint64_t room; /* what the body may still grow by */
};

/* http_chunk.c. Decodes from *in into body until the message ends (state is CHUNK_END), a fault, or the input
 * is used up. Starts from a zeroed struct with room set. */
enum http_fault http_chunks_read(struct http_chunks *c, struct buf *body,
                                 struct span *in) MUST_CHECK;

/* http_text.c: what characters and short texts mean. */
enum {
    CHAR_TOKEN = 1,  /* of a method or field name */
    CHAR_TARGET = 2, /* of a path or query */
    CHAR_HOST = 4,   /* of a registered name */
};
extern const uint8_t http_char_class[256];
static inline bool
http_char_is(char c, unsigned classes)
{
    return (http_char_class[(unsigned char)c] & classes) != 0;
}
int http_hex_value(char c); /* -1: not a digit */
bool http_is_token(struct span s);
bool http_is_authority(struct span s); /* host [":" port], as in Host; no user */
/* Cuts the next comma-separated item off *list, without the white space around it; false at the
 * end. Items may be empty. */
bool http_list_next(struct span *list, struct span *item);
struct span http_trim(struct span s); /* without spaces and tabs around it */
/* Decodes %XX into out, at most size bytes; out may be s.at. plus: '+' is a space. Returns the
 * length, or SIZE_MAX: it does not fit, a bad escape or %00. */
size_t http_unescape(char *out, size_t size, struct span s, bool plus);

#endif
