/* run.c - weir run, weir api, weir worker: the same process with both halves, or one of them. */
#include "app.h"
#include "cmd/cmd.h"
#include "cmd/settings.h"
#include "cmd/watch.h"
#include "log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 100
/* After the drain's own bound: time for the last commit and the checkpoint. */
#define STOP_GRACE_S 10
#define URL_SHOWN 1100 /* a masked URL is at most a few bytes longer than the setting may be */

static enum log_level
log_level_of(const char *word)
{
    static const char *const words[] = {
        [LOG_DEBUG] = "debug", [LOG_INFO] = "info", [LOG_WARN] = "warn", [LOG_ERROR] = "error"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (strcmp(word, words[i]) == 0) {
            return (enum log_level)i;
        }
    }
    return LOG_INFO;
}

static void
print_api(const char *address)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    printf("API   %s%s\n", is_unix ? "" : "http://", address);
}

static void
print_try(const char *address)
{
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    const char *base = is_unix ? "localhost" : address;
    printf("try   curl -i %s%s%shttp://%s/events -H 'Content-Type: application/json' -d "
           "'{\"event_id\":\"evt_001\","
           "\"type\":\"GRIEVANCE\",\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{\"message\":"
           "\"Water issue\"}}'\n",
           is_unix ? "--unix-socket " : "", is_unix ? address + 5 : "", is_unix ? " " : "", base);
}

/* What a process without an API is there for: one line. */
static void
print_worker(const struct config *cfg)
{
    char queue[URL_SHOWN];
    char sink[URL_SHOWN];
    printf("worker  queue=%s sink=%s\n", config_mask(queue, sizeof queue, cfg->queue),
           config_mask(sink, sizeof sink, cfg->sink));
}

/* Where a process with an API stores what it accepted: here, or where the queue is. */
static void
print_store(const struct config *cfg)
{
    char queue[URL_SHOWN];
    bool local = strcmp(cfg->queue, "local") == 0;
    printf("%s %s\n", local ? "data " : "queue",
           local ? cfg->data : config_mask(queue, sizeof queue, cfg->queue));
}

/* Three lines at most: where the API is, where events go, what to try. */
static void
print_start(const struct app *a, const struct config *cfg)
{
    const char *address = app_address(a);
    if (address == NULL) {
        print_worker(cfg);
    } else {
        print_api(address);
        print_store(cfg);
        print_try(address);
    }
    fflush(stdout);
}

/* A second signal, or the end of the time for stopping: whatever was answered 202 is on disk, so ending here loses nothing. */
static void
end_at_once(int number)
{
    static const char said[] =
        "weir: stopped before everything was finished; it is processed after the next start\n";
    if (write(STDERR_FILENO, said, sizeof said - 1) < 0) {
        /* nothing else can be done in a signal handler */
    }
    _exit(number == SIGALRM ? EX_TEMPFAIL : 1);
}

static void
block_stop_signals(sigset_t *stop)
{
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(stop);
    sigaddset(stop, SIGINT);
    sigaddset(stop, SIGTERM);
    sigaddset(stop, SIGHUP);
    pthread_sigmask(SIG_BLOCK, stop, NULL);
}

static void
arm_end_at_once(const sigset_t *stop, int64_t drain_ms)
{
    struct sigaction action = {.sa_handler = end_at_once};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    pthread_sigmask(SIG_UNBLOCK, stop, NULL);
    alarm((unsigned)(drain_ms / 1000) + STOP_GRACE_S);
}

static void
wait_for_signal(const sigset_t *stop, struct watch *w, struct env *env)
{
    const struct timespec tick = {.tv_nsec = TICK_MS * 1000000L};
    int number = -1;
    while (number < 0) {
        number = sigtimedwait(stop, NULL, &tick);
        watch_tick(w, env->mono_ms(env));
    }
    log_info(env->log, "stop.begin", "signal=%s", strsignal(number));
}

static void
log_start(const struct app *a, const struct config *cfg, struct env *env)
{
    char queue[URL_SHOWN];
    char dedup[URL_SHOWN];
    char sink[URL_SHOWN];
    const char *address = app_address(a);
    log_info(
        env->log, "start", "version=" WEIR_VERSION " listen=%s data=%s queue=%s dedup=%s sink=%s",
        address == NULL ? "none" : address, cfg->data, config_mask(queue, sizeof queue, cfg->queue),
        config_mask(dedup, sizeof dedup, cfg->dedup), config_mask(sink, sizeof sink, cfg->sink));
}

/* Whatever promises less than it could is said where it happens, not only by weir check. */
static void
log_notes(const struct config *cfg, struct env *env)
{
    static const char lead[] = "# note: ";
    struct buf notes;
    buf_init(&notes, 0);
    config_add_notes(&notes, cfg);
    const char *line = notes.at;
    for (size_t left = notes.len; left > 0;) {
        size_t len = (size_t)((const char *)memchr(line, '\n', left) - line);
        log_warn(env->log, "start.note", "why=\"%.*s\"", (int)(len - sizeof lead + 1),
                 line + sizeof lead - 1);
        line += len + 1;
        left -= len + 1;
    }
    buf_fini(&notes);
}

/* What a wrong setting, a missing table, or a service that is away is to whoever started us. */
static int
exit_code(enum err e)
{
    if (e == ERR_CONFIG) {
        return EX_CONFIG;
    }
    return err_fate(e) == FATE_RETRY ? EX_TEMPFAIL : EX_CANTCREAT;
}

static int
serve(const struct app_parts *parts)
{
    sigset_t stop;
    struct app *a = NULL;
    char why[512];
    block_stop_signals(&stop);
    enum err e = app_open(&a, parts, why, sizeof why);
    if (e != OK) {
        fprintf(stderr, "weir: %s\n", why);
        return exit_code(e);
    }
    e = app_start(a);
    if (e != OK) {
        fprintf(stderr, "weir: cannot start: %s\n", err_text(e));
        app_close(a);
        return EX_OSERR;
    }
    log_start(a, parts->cfg, parts->env);
    if (parts->roles & APP_WORKER) {
        log_notes(parts->cfg, parts->env);
    }
    print_start(a, parts->cfg);
    wait_for_signal(&stop, parts->watch_data, parts->env);
    arm_end_at_once(&stop, parts->cfg->drain_timeout);
    app_drain(a);
    app_close(a);
    return 0;
}

static int
run_with(const struct config *cfg, unsigned roles)
{
    int code = EX_OSERR;
    struct env env;
    struct log *log =
        log_open(STDERR_FILENO, log_level_of(cfg->log_level), strcmp(cfg->log_format, "json") == 0);
    struct watch *w = watch_open(STDOUT_FILENO);
    if (log == NULL || w == NULL) {
        fprintf(stderr, "weir: out of memory\n");
    } else {
        env_init_system(&env, log);
        const struct app_parts parts = {
            .cfg = cfg, .env = &env, .roles = roles, .watch = watch_event, .watch_data = w};
        code = serve(&parts);
    }
    watch_close(w);
    log_close(log);
    return code;
}

/* One half alone needs a queue that others can reach. */
static bool
can_be_apart(const struct config *cfg, const char *name)
{
    if (strcmp(cfg->queue, "local") != 0) {
        return true;
    }
    fprintf(stderr,
            "weir %s: the local queue lives in one process: use weir run, or name a RabbitMQ with "
            "--queue amqp://user:password@host/vhost\n",
            name);
    return false;
}

static int
run_half(const char *name, unsigned roles, int argc, char **argv, char *const *envp)
{
    struct config cfg;
    int code = settings_load(&cfg, argc, argv, envp);
    if (code != 0) {
        return code;
    }
    bool both = roles == (APP_API | APP_WORKER);
    code = both || can_be_apart(&cfg, name) ? run_with(&cfg, roles) : 2;
    config_free(&cfg);
    return code;
}

int
cmd_run(int argc, char **argv, char *const *envp)
{
    return run_half("run", APP_API | APP_WORKER, argc, argv, envp);
}

int
cmd_api(int argc, char **argv, char *const *envp)
{
    return run_half("api", APP_API, argc, argv, envp);
}

int
cmd_worker(int argc, char **argv, char *const *envp)
{
    return run_half("worker", APP_WORKER, argc, argv, envp);
}
