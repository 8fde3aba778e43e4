/* envelope.h - events as the body of an AMQP message, and back.
 * Contract: pure. A lone event is plain JSON (application/json); several are NDJSON
 *           (application/x-ndjson), one event a line. The payload keeps its bytes but for line
 *           breaks between its tokens, which become spaces in NDJSON. Reading understands both,
 *           and the older service's {"pattern":"event_created","data":{…}}; which one is told by
 *           the body, not by headers. Writing the older form: `nest`.
 * Threads:  pure; the parser is the caller's thread's.
 * Owns:     nothing.
 * Bounds:   ENVELOPE_BYTES and cfg amqp.envelope events; one event larger than the bytes travels
 *           alone. */
#ifndef WEIR_ENVELOPE_H
#define WEIR_ENVELOPE_H

#include "buf.h"
#include "event.h"

#define ENVELOPE_BYTES ((size_t)64 * 1024)

#define ENVELOPE_JSON "application/json"
#define ENVELOPE_NDJSON "application/x-ndjson"

/* Appends as many events of the list, from *at on, as fit (at least one; with `nest` exactly one);
 * moves *at past them. Returns how many; 0: out of memory, and *at is as it was. */
size_t envelope_write(struct buf *out, const struct mail **at, size_t max_events, bool nest);
const char *envelope_content_type(size_t events); /* static */

/* Appends the events of a body to *list. ERR_INVALID: there is no event in it, or one of them is
 * not valid: the message as a whole is not ours to understand, *wrong says why, and *list is as it
 * was. ERR_NOMEM likewise, without a why. BUF_SLACK readable bytes must follow the body. */
enum err envelope_read(struct event_parser *p, struct mail_list *list, struct event_errors *wrong,
                       struct span body) MUST_CHECK;

#endif
