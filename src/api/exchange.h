/* exchange.h - one HTTP request and its answer: what handlers see of a connection.
 * Contract: a handler gets an exchange whose request is complete, and answers it exactly once
 *           with exchange_reply, at once or later from the same loop. The request's spans are
 *           valid until the handler returns; what is needed later is copied. A client that went
 *           away meanwhile is no business of the handler: the reply is dropped and the exchange
 *           freed.
 * Threads:  the loop's thread only. */
#ifndef WEIR_EXCHANGE_H
#define WEIR_EXCHANGE_H

#include "buf.h"
#include "api/http_parse.h"

struct api_loop;

struct exchange {
    const struct http_request *request; /* valid until the handler returns */
    struct api_loop *loop;
    struct span param; /* the variable part of the path, decoded; valid until the handler returns */
    void *ctx;         /* the handler's own */
};

/* Adds a header field to the answer; call before exchange_reply. name and value are copied. */
void exchange_header(struct exchange *x, const char *name, const char *value);
/* Answers and ends the exchange (x must not be used again). The body is copied; HEAD sends its
 * length only. */
void exchange_reply(struct exchange *x, int status, const char *content_type, struct span body);

#endif
