/* migrate.c - weir migrate: creates or upgrades the tables in PostgreSQL. */
#include "cmd/cmd.h"

#include "cmd/print.h"
#include "cmd/settings.h"
#include "postgres/postgres.h"

#include <signal.h>
#include <sysexits.h>

#define EXIT_WRONG 2
#define SAID_MAX ((size_t)64 * 1024)

static int
exit_code(enum err e)
{
    if (e == ERR_CONFIG) {
        return EX_CONFIG;
    }
    return err_fate(e) == FATE_RETRY ? EX_TEMPFAIL : 1;
}

static int
migrate(const char *url)
{
    char why[512] = "";
    struct buf said;
    buf_init(&said, SAID_MAX);
    enum err e = pg_migrate(url, &said, why, sizeof why);
    if (e != OK) {
        buf_fini(&said);
        fprintf(stderr, "weir migrate: %s\n", why[0] == '\0' ? err_text(e) : why);
        return exit_code(e);
    }
    return print_and_free(&said);
}

static bool
is_postgres(const char *url)
{
    return strncmp(url, "postgresql:", 11) == 0 || strncmp(url, "postgres:", 9) == 0;
}

static int
refuse(const char *sink)
{
    char shown[256];
    fprintf(stderr,
            "weir migrate: sink = %s has no tables to make; name a database with --sink "
            "postgresql://user:password@host/database\n",
            config_mask(shown, sizeof shown, sink));
    return EXIT_WRONG;
}

int
cmd_migrate(int argc, char **argv, char *const *envp)
{
    struct config cfg;
    int code = settings_load(&cfg, argc, argv, envp);
    if (code != 0) {
        return code;
    }
    signal(SIGPIPE, SIG_IGN); /* a lost connection is an answer, not an end */
    code = is_postgres(cfg.sink) ? migrate(cfg.sink) : refuse(cfg.sink);
    config_free(&cfg);
    return code;
}
