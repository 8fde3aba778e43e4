/* err.h - every way a function of ours can fail, in one table.
 * Contract: functions that can fail return enum err and are MUST_CHECK. Callers branch on the
 *           fate, never on the text.
 * Threads:  pure. */
#ifndef WEIR_ERR_H
#define WEIR_ERR_H

#define MUST_CHECK __attribute__((warn_unused_result))

/* What the caller can do about it. */
enum fate {
    FATE_DONE,   /* nothing: it worked */
    FATE_RETRY,  /* wait, then do the same again */
    FATE_REJECT, /* this event can never succeed: make it dead, keep the others */
    FATE_STOP,   /* the process must stop: what it believes about the disk is no longer true */
    FATE_BUG,    /* called against its contract */
};

/* code, fate, text */
/* clang-format off */
#define ERR_MAP(X)                                                                \
    X(OK, FATE_DONE, "ok")                                                        \
    X(ERR_NOMEM, FATE_RETRY, "out of memory")                                     \
    X(ERR_BUSY, FATE_RETRY, "the mailbox is full")                                \
    X(ERR_QUEUE_FULL, FATE_RETRY, "the queue is full")                            \
    X(ERR_DISK_FULL, FATE_RETRY, "the disk is full")                              \
    X(ERR_UNAVAILABLE, FATE_RETRY, "the other side cannot be reached")            \
    X(ERR_LOST, FATE_RETRY, "what was taken was given back to the queue")         \
    X(ERR_STOPPING, FATE_RETRY, "stopping")                                       \
    X(ERR_REJECTED, FATE_REJECT, "the event can never be stored")                 \
    X(ERR_NOT_FOUND, FATE_REJECT, "not found")                                    \
    X(ERR_INVALID, FATE_REJECT, "not valid")                                      \
    X(ERR_CONFIG, FATE_STOP, "the configuration cannot be used")                  \
    X(ERR_IO, FATE_STOP, "input/output error")                                    \
    X(ERR_CORRUPT, FATE_STOP, "stored data is damaged")                           \
    X(ERR_MISUSE, FATE_BUG, "called against its contract")
/* clang-format on */

enum err {
#define X(code, fate, text) code,
    ERR_MAP(X)
#undef X
};

enum fate err_fate(enum err e);
const char *err_name(enum err e); /* "ERR_NOMEM"; static */
const char *err_text(enum err e); /* "out of memory"; static */

#endif
