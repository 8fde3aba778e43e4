/* cmd.h - the subcommands: a table row and a function each, one file each.
 * Contract: argv holds what follows the subcommand's name. Returns the exit code: 0, 1 (it did
 *           not work out), 2 (wrong usage or configuration), 64+ from sysexits.h where one fits
 *           better. Errors go to standard error, one line each, and say what was expected. */
#ifndef WEIR_CMD_H
#define WEIR_CMD_H

/* function, name, arguments, help */
/* clang-format off */
#define CMD_TABLE(X) \
    X(cmd_run, "run", "[--setting value …]", "API, queue and worker in one process: the default") \
    X(cmd_api, "api", "[--setting value …]", "the API alone: events go to RabbitMQ") \
    X(cmd_worker, "worker", "[--setting value …]", "a worker alone: events come from RabbitMQ") \
    X(cmd_migrate, "migrate", "--sink postgresql://… [--setting value …]", "create or upgrade the tables in PostgreSQL") \
    X(cmd_send, "send", "FILE|- [--url URL]", "send the events of a file (NDJSON or JSON)") \
    X(cmd_events, "events", "list|show ID [--url URL]", "look at what became of events") \
    X(cmd_bench, "bench", "URL [--rate R] [--connections C] [--batch B] [--duration S]", "put load on an API and measure it") \
    X(cmd_check, "check", "[--setting value …]", "print the effective configuration and where each value comes from") \
    X(cmd_version, "version", "", "print the version") \
    X(cmd_help, "help", "[COMMAND|settings]", "print this, or more about a command")
/* clang-format on */

struct cmd {
    int (*run)(int argc, char **argv, char *const *envp);
    const char *name;
    const char *arguments;
    const char *help;
};
extern const struct cmd cmd_table[]; /* ends with a NULL name */

#define X(function, name, arguments, help) int function(int argc, char **argv, char *const *envp);
CMD_TABLE(X)
#undef X

#endif
