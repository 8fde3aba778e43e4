/* app.h - composition root: configuration → backends → threads, and their end in flow order.
 * Contract: app_open makes everything and binds the address, so that whatever is wrong is said before anything is served; app_start
 *           starts the workers, then the API. app_drain: stop accepting, answer what waits, stop taking, finish the batches.
 * Threads:  the main thread.
 * Fails:    app_open: `why` says what to tell the user; what was opened is closed again. */
#ifndef WEIR_APP_H
#define WEIR_APP_H

#include "config.h"
#include "env.h"
#include "worker/worker.h"

struct app;

/* Which halves this process is. With the local queue it is both. */
enum app_role { APP_API = 1, APP_WORKER = 2 };

struct app_parts { /* all borrowed, outlive the app */
    const struct config *cfg;
    struct env *env;
    unsigned roles; /* of enum app_role */
    worker_watch *watch;
    void *watch_data;
};

enum err app_open(struct app **out, const struct app_parts *parts, char *why,
                  size_t why_size) MUST_CHECK;
enum err app_start(struct app *a) MUST_CHECK;
const char *app_address(const struct app *a); /* "127.0.0.1:3000", "unix:/path"; NULL: no API */
void app_drain(struct app *a);
void app_close(struct app *a); /* NULL ok */

#endif
