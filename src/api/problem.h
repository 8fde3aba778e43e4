/* problem.h - error answers: application/problem+json (RFC 9457).
 * {"type":"about:blank","title":"Bad Request","status":400,"detail":"…","errors":[{"pointer":
 * "/timestamp","detail":"…"}]} */
#ifndef WEIR_PROBLEM_H
#define WEIR_PROBLEM_H

#include "api/exchange.h"
#include "event.h"

/* Answers and ends the exchange. errors may be NULL. */
void problem_reply(struct exchange *x, int status, const char *detail,
                   const struct event_errors *errors);
/* 503 with Retry-After. */
void problem_reply_retry(struct exchange *x, const char *detail, unsigned retry_after_s);
/* The same body, for a connection that has no exchange (a request that could not be parsed). */
void problem_write(struct buf *out, int status, const char *detail,
                   const struct event_errors *errors);
/* "errors":[…] as an array, for batch answers too. */
void problem_write_errors(struct buf *out, const struct event_errors *errors);
const char *http_status_text(int status); /* "Bad Request"; static */

#endif
