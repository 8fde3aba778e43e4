/* scan.h - finds values in JSON text without building anything.
 * Contract: for the answers of our own API, and to find where an event of a file ends. It skips
 *           over values, it does not validate them. A span with a NULL `at` says that there was
 *           none, or that it was cut off (a number or a word cut off is taken for a shorter one).
 *           Nothing outside the given span is read.
 * Threads:  pure.
 * Owns:     nothing; results are parts of the given text. */
#ifndef WEIR_SCAN_H
#define WEIR_SCAN_H

#include "buf.h"
#include "span.h"

#include <stdint.h>

/* Moves past white space. */
struct span scan_blank(struct span in);
/* Takes one value from the front of *in, with the white space before it. */
struct span scan_value(struct span *in);
/* The value of a member of an object. */
struct span scan_member(struct span object, const char *name);
/* Goes through an array: *rest is the array at first. NULL `at` at its end. */
struct span scan_item(struct span *rest);
/* 0 when it is no whole number. */
uint64_t scan_count(struct span value);
/* Appends a string's text, unescaped; of any other value its text as it stands. */
void scan_text(struct buf *out, struct span value);

#endif
