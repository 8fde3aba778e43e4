/* http_chunk.c - the chunked coding (RFC 9112 7.1), one byte at a time but for the data.
 * Strict: CRLF only, no white space around the size. Extensions are ignored and trailers thrown
 * away, both checked and within limits: neither can smuggle a field or hold a connection. */
#include "api/http_head.h"

#define SIZE_DIGITS_MAX 16 /* what 64 bits hold; more zeros in front would be endless */

typedef enum http_fault chunk_step(struct http_chunks *c, char byte);

/* The size is complete: it must fit into the room that is left. */
static enum http_fault
end_size(struct http_chunks *c, enum http_chunk_state next)
{
    if (c->digits == 0) {
        return FAULT_CHUNK_SIZE;
    }
    if (c->left > c->room) {
        return FAULT_BODY_LARGE;
    }
    c->room -= c->left;
    c->digits = 0;
    c->state = next;
    return FAULT_NONE;
}

static enum http_fault
on_size(struct http_chunks *c, char byte)
{
    int digit = http_hex_value(byte);
    if (byte == '\r') {
        return end_size(c, CHUNK_SIZE_LF);
    }
    if (byte == ';') {
        return end_size(c, CHUNK_EXTENSION);
    }
    if (digit < 0 || c->digits == SIZE_DIGITS_MAX) {
        return FAULT_CHUNK_SIZE;
    }
    c->left = c->left * 16 + (uint64_t)digit;
    c->digits++;
    return FAULT_NONE;
}

static bool
is_text(char byte)
{
    return byte == '\t' || ((unsigned char)byte >= 0x20 && byte != 0x7f);
}

static enum http_fault
on_extension(struct http_chunks *c, char byte)
{
    if (byte == '\r') {
        c->state = CHUNK_SIZE_LF;
        return FAULT_NONE;
    }
    c->extension_bytes++;
    return is_text(byte) && c->extension_bytes <= HTTP_CHUNK_EXT_MAX ? FAULT_NONE
                                                                     : FAULT_CHUNK_EXTENSION;
}

static enum http_fault
on_size_lf(struct http_chunks *c, char byte)
{
    c->state = c->left > 0 ? CHUNK_DATA : CHUNK_TRAILER;
    return byte == '\n' ? FAULT_NONE : FAULT_BARE_CR;
}

static enum http_fault
on_data_cr(struct http_chunks *c, char byte)
{
    c->state = CHUNK_DATA_LF;
    return byte == '\r' ? FAULT_NONE : FAULT_CHUNK_END;
}

static enum http_fault
on_data_lf(struct http_chunks *c, char byte)
{
    c->state = CHUNK_SIZE;
    return byte == '\n' ? FAULT_NONE : FAULT_BARE_CR;
}

static enum http_fault
count_trailer_byte(struct http_chunks *c)
{
    c->trailer_bytes++;
    return c->trailer_bytes <= HTTP_TRAILER_BYTES_MAX ? FAULT_NONE : FAULT_TRAILERS_LARGE;
}

/* The first byte of a line after the last chunk. */
static enum http_fault
on_trailer(struct http_chunks *c, char byte)
{
    if (byte == '\r') {
        c->state = CHUNK_END_LF;
        return FAULT_NONE;
    }
    if (!http_char_is(byte, CHAR_TOKEN)) {
        return FAULT_TRAILER;
    }
    if (c->n_trailers == HTTP_TRAILERS_MAX) {
        return FAULT_TRAILERS_LARGE;
    }
    c->n_trailers++;
    c->state = CHUNK_TRAILER_NAME;
    return count_trailer_byte(c);
}

static enum http_fault
on_trailer_name(struct http_chunks *c, char byte)
{
    if (byte == ':') {
        c->state = CHUNK_TRAILER_VALUE;
    } else if (!http_char_is(byte, CHAR_TOKEN)) {
        return FAULT_TRAILER;
    }
    return count_trailer_byte(c);
}

static enum http_fault
on_trailer_value(struct http_chunks *c, char byte)
{
    if (byte == '\r') {
        c->state = CHUNK_TRAILER_LF;
        return FAULT_NONE;
    }
    return is_text(byte) ? count_trailer_byte(c) : FAULT_TRAILER;
}

static enum http_fault
on_trailer_lf(struct http_chunks *c, char byte)
{
    c->state = CHUNK_TRAILER;
    return byte == '\n' ? FAULT_NONE : FAULT_BARE_CR;
}

static enum http_fault
on_end_lf(struct http_chunks *c, char byte)
{
    c->state = CHUNK_END;
    return byte == '\n' ? FAULT_NONE : FAULT_BARE_CR;
}

static chunk_step *const steps[] = {
    [CHUNK_SIZE] = on_size,
    [CHUNK_EXTENSION] = on_extension,
    [CHUNK_SIZE_LF] = on_size_lf,
    [CHUNK_DATA_CR] = on_data_cr,
    [CHUNK_DATA_LF] = on_data_lf,
    [CHUNK_TRAILER] = on_trailer,
    [CHUNK_TRAILER_NAME] = on_trailer_name,
    [CHUNK_TRAILER_VALUE] = on_trailer_value,
    [CHUNK_TRAILER_LF] = on_trailer_lf,
    [CHUNK_END_LF] = on_end_lf,
};

static enum http_fault
take_data(struct http_chunks *c, struct buf *body, struct span *in)
{
    size_t len = in->len < c->left ? in->len : (size_t)c->left;
    buf_add(body, in->at, len);
    if (!buf_ok(body)) {
        return FAULT_MEMORY;
    }
    *in = (struct span){in->at + len, in->len - len};
    c->left -= len;
    if (c->left == 0) {
        c->state = CHUNK_DATA_CR;
    }
    return FAULT_NONE;
}

enum http_fault
http_chunks_read(struct http_chunks *c, struct buf *body, struct span *in)
{
    enum http_fault fault = FAULT_NONE;
    while (fault == FAULT_NONE && in->len > 0 && c->state != CHUNK_END) {
        if (c->state == CHUNK_DATA) {
            fault = take_data(c, body, in);
            continue;
        }
        fault = steps[c->state](c, *in->at);
        *in = (struct span){in->at + 1, in->len - 1};
    }
    return fault;
}
