/* event_check.h - what makes a JSON text an event.
 * Contract: finds every error of an event at once, each with the member it is about and what was
 *           expected there. The text was read by json_read.
 * Threads:  pure, but for the reader that it walks.
 * Owns:     nothing; the fields point into the text and the reader. */
#ifndef WEIR_EVENT_CHECK_H
#define WEIR_EVENT_CHECK_H

#include "event.h"
#include "json.h"

struct event_fields {
    struct span id; /* set wherever the text has a good one, even if the event is not valid */
    struct span type;
    struct span timestamp;
    struct span payload;
};

/* Adds the errors it finds; the event is valid when errors->n is still 0. */
void event_check(struct json_reader *r, struct event_fields *out, struct event_errors *errors);

/* One error about a member of that name; an empty name is the whole event. Beyond EVENT_ERRORS_MAX
 * they are dropped. */
void event_errors_add(struct event_errors *errors, struct span member, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
