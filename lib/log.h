/* log.h - one line per decision: logfmt, or JSON by setting.
 * Contract: `event` is a stable dotted name ("store.disk_full"); the rest is key=value text.
 *           Values that may hold spaces are written quoted by the caller, as in why="…". Payloads
 *           and secrets never come here.
 * Repeats:  each event name may write LOG_BURST lines a second; more are counted and the count is
 *           written on the next line of that name (suppressed=N). The table of names holds
 *           LOG_NAMES entries; beyond it no limit is kept per name but one shared entry is used.
 * Threads:  any; a line is written whole.
 * Fails:    silently; a log that cannot be written changes nothing else. */
#ifndef WEIR_LOG_H
#define WEIR_LOG_H

#include "span.h"

#include <stdbool.h>
#include <stdint.h>

#define LOG_BURST 10
#define LOG_NAMES 128

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

struct log;

struct log *log_open(int fd, enum log_level least,
                     bool json); /* NULL when out of memory; fd is borrowed */
void log_close(struct log *l);   /* NULL ok */
void log_flush(struct log *l);
void log_write(struct log *l, enum log_level level, const char *event, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
uint64_t
log_suppressed(struct log *l); /* lines not written because of the limit, since the start */

/* A client's text as it may stand between quotes in a line: quotes, backslashes and controls become
 * '?', what is too long is cut. Returns out. */
#define LOG_VALUE_MAX 160
const char *log_value(char out[LOG_VALUE_MAX], struct span text);

#define log_debug(l, ...) log_write((l), LOG_DEBUG, __VA_ARGS__)
#define log_info(l, ...) log_write((l), LOG_INFO, __VA_ARGS__)
#define log_warn(l, ...) log_write((l), LOG_WARN, __VA_ARGS__)
#define log_error(l, ...) log_write((l), LOG_ERROR, __VA_ARGS__)

#endif
