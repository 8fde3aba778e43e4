/* amqp_watch.h - shuts a socket down when a call on it takes too long.
 * Contract: between begin and end the call has its limit; past it the socket is shut down, so that
 *           whatever blocks in it returns with an error. Looked at every AMQP_WATCH_EVERY_MS.
 * Threads:  begin, end and fired: the link's thread. The watching is a thread of its own, one a
 *           link: it needs neither a lock nor anything global, and ends with the link.
 * Owns:     a duplicate of the socket: the library closes its own behind our back, and the number
 *           may belong to something else by then.
 * Fails:    NULL from open: no memory, descriptor or thread. */
#ifndef WEIR_AMQP_WATCH_H
#define WEIR_AMQP_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#define AMQP_WATCH_EVERY_MS 250

struct env;
struct amqp_watch;

struct amqp_watch *amqp_watch_open(struct env *env, int fd);
void amqp_watch_begin(struct amqp_watch *w, int64_t limit_ms);
void amqp_watch_end(struct amqp_watch *w);
bool amqp_watch_fired(const struct amqp_watch *w); /* it has shut the socket down */
void amqp_watch_close(struct amqp_watch *w);       /* NULL ok */

#endif
