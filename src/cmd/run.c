/* run.c - weir run: API, queue and worker in one process. */
#include "app.h"
#include "cmd/cmd.h"
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

/* Load the configuration, or say what is wrong with it. */
static int
load_config(struct config *cfg, int argc, char **argv, char *const *envp)
{
    struct buf errors;
    buf_init(&errors, 65536);
    enum err e = config_load(cfg, &argc, argv, envp, &errors);
    if (e == OK && argc > 0) {
        buf_addf(&errors,
                 "weir run takes settings only: \"%s\" is none; weir help settings lists them\n",
                 argv[0]);
        config_free(cfg);
        e = ERR_CONFIG;
    }
    if (e != OK) {
        fprintf(stderr, "%.*s", SPAN_FMT(buf_span(&errors)));
    }
    buf_fini(&errors);
    return e == OK ? 0 : 2;
}

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
print_start(const struct app *a, const struct config *cfg)
{
    const char *address = app_address(a);
    bool is_unix = strncmp(address, "unix:", 5) == 0;
    const char *base = is_unix ? "localhost" : address;
    printf("API   %s%s\n", is_unix ? "" : "http://", address);
    printf("data  %s\n", cfg->data);
    printf("try   curl -i %s%s%shttp://%s/events -H 'Content-Type: application/json' -d "
           "'{\"event_id\":\"evt_001\","
           "\"type\":\"GRIEVANCE\",\"timestamp\":\"2026-02-03T12:30:00Z\",\"payload\":{\"message\":"
           "\"Water issue\"}}'\n",
           is_unix ? "--unix-socket " : "", is_unix ? address + 5 : "", is_unix ? " " : "", base);
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

static int
serve(const struct config *cfg, struct env *env, struct watch *w)
{
    sigset_t stop;
    struct app *a = NULL;
    char why[512];
    block_stop_signals(&stop);
    enum err e = app_open(&a, cfg, env, watch_event, w, why, sizeof why);
    if (e != OK) {
        fprintf(stderr, "weir: %s\n", why);
        return err_fate(e) == FATE_RETRY ? EX_TEMPFAIL : EX_CANTCREAT;
    }
    e = app_start(a);
    if (e != OK) {
        fprintf(stderr, "weir: cannot start: %s\n", err_text(e));
        app_close(a);
        return EX_OSERR;
    }
    log_info(env->log, "start",
             "version=" WEIR_VERSION " listen=%s data=%s queue=%s dedup=%s sink=%s", app_address(a),
             cfg->data, cfg->queue, cfg->dedup, cfg->sink);
    print_start(a, cfg);
    wait_for_signal(&stop, w, env);
    arm_end_at_once(&stop, cfg->drain_timeout);
    app_drain(a);
    app_close(a);
    return 0;
}

int
cmd_run(int argc, char **argv, char *const *envp)
{
    struct config cfg;
    int code = load_config(&cfg, argc, argv, envp);
    if (code != 0) {
        return code;
    }
    struct env env;
    struct log *log =
        log_open(STDERR_FILENO, log_level_of(cfg.log_level), strcmp(cfg.log_format, "json") == 0);
    struct watch *w = watch_open(STDOUT_FILENO);
    if (log == NULL || w == NULL) {
        fprintf(stderr, "weir: out of memory\n");
        code = EX_OSERR;
    } else {
        env_init_system(&env, log);
        code = serve(&cfg, &env, w);
    }
    watch_close(w);
    log_close(log);
    config_free(&cfg);
    return code;
}
