/* inbox.h - the consuming end of a link: connects, and connects again after a pause; reads messages
 * ahead; sends dead letters and waits until they are confirmed; acks.
 * Contract: a message read ahead, or popped and not acked, is the broker's again as soon as the
 *           link is lost: what was read ahead is thrown away, and what was popped must be
 *           forgotten. A foreign message is acked by the inbox, once its bytes are a confirmed dead
 *           letter.
 * Threads:  one; inbox_stop: any.
 * Owns:     what was read ahead; a popped message is the caller's.
 * Bounds:   amqp.prefetch messages, read ahead and popped together, each as large as its publisher
 *           made it; those of weir have at most ENVELOPE_BYTES or one event.
 * Fails:    ERR_LOST: the link is gone. ERR_UNAVAILABLE: it stands, or stood never, but that cannot
 *           be done now. ERR_NOMEM. ERR_STOPPING: inbox_stop was called. */
#ifndef WEIR_INBOX_H
#define WEIR_INBOX_H

#include "amqp/delivered.h"

struct inbox;

enum err inbox_open(struct inbox **out, const struct config *cfg, struct env *env) MUST_CHECK;
void inbox_close(struct inbox *in); /* NULL ok */
void inbox_stop(struct inbox *in);  /* ends a wait */

/* Times are of env->mono_ms. */
enum err inbox_connect(struct inbox *in, int64_t until_ms) MUST_CHECK; /* OK at once if it stands */
bool inbox_is_linked(const struct inbox *in);
bool inbox_is_cancelled(const struct inbox *in); /* nothing more will come on this link */
void inbox_leave(struct inbox *in);              /* drops the link, to connect anew */

/* Reads what has come, until there are `enough` events; waits for the first message only. */
enum err inbox_fill(struct inbox *in, size_t enough, int64_t until_ms) MUST_CHECK;
/* Hears the broker out, without waiting: heartbeats, closes, and what it delivers. */
enum err inbox_hear(struct inbox *in) MUST_CHECK;
enum err inbox_hear_if_silent(struct inbox *in) MUST_CHECK; /* the same, when it is some time ago */

/* Makes the foreign messages read ahead dead letters. Not OK: they are still there. */
enum err inbox_bury_foreign(struct inbox *in) MUST_CHECK;
const struct delivered *inbox_peek(const struct inbox *in); /* the oldest; NULL: none */
struct delivered *inbox_pop(struct inbox *in); /* the oldest, which must not be foreign */

/* Sends a dead letter, unless it is on its way or confirmed. */
enum err inbox_send(struct inbox *in, struct letter *l, const struct amqp_message *m) MUST_CHECK;
/* Waits until the broker has answered for every letter sent. ERR_UNAVAILABLE: it takes none at
 * present; what was sent may still be confirmed, and sending it again only waits. A letter for which
 * there is no queue ends the link (ERR_LOST): the next one declares it. */
enum err inbox_await(struct inbox *in) MUST_CHECK;
enum err inbox_not_confirmed(struct inbox *in); /* logs it; ERR_UNAVAILABLE */
enum err inbox_ack(struct inbox *in, uint64_t tag, bool multiple) MUST_CHECK;

#endif
