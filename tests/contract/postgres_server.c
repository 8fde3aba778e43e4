#include "postgres_server.h"

#include "clock.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <grp.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_NS (20 * INT64_C(1000000000))

/* Debian keeps the servers of each version apart. */
static void
find_bin(char *out, size_t size, const char *name)
{
    glob_t found;
    assert_int_equal(glob("/usr/lib/postgresql/*/bin", 0, NULL, &found), 0); /* not installed? */
    snprintf(out, size, "%s/%s", found.gl_pathv[found.gl_pathc - 1], name);
    globfree(&found);
}

/* Below the ports that the system gives to connections: one of those could take it before the server
 * does, even the one that waits for it. */
static int
free_port(void)
{
    static unsigned tried;
    for (;; tried++) {
        int port = 10000 + (int)(((unsigned)getpid() * 7919 + tried * 104729) % 20000);
        struct sockaddr_in a = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        assert_true(fd >= 0 && tried < 1000);
        int rc = bind(fd, (struct sockaddr *)&a, sizeof a);
        close(fd);
        if (rc == 0) {
            return port;
        }
    }
}

/* In a child. PostgreSQL refuses to be root. A change of user forgets the death signal, so that
 * comes after it. */
static void
become(const struct postgres_server *s, char *const *argv)
{
    struct passwd *owner = getuid() == 0 ? getpwnam("postgres") : NULL;
    if (owner != NULL && (initgroups("postgres", owner->pw_gid) != 0 ||
                          setgid(owner->pw_gid) != 0 || setuid(owner->pw_uid) != 0)) {
        _exit(126);
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    if (chdir(s->folder) != 0) {
        _exit(126);
    }
    int log = open("log", O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execv(argv[0], argv);
    _exit(127);
}

static pid_t
launch(const struct postgres_server *s, char *const *argv)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        become(s, argv);
    }
    return pid;
}

static void
make_folder(struct postgres_server *s)
{
    char path[128];
    s->port = free_port();
    snprintf(s->folder, sizeof s->folder, "/var/tmp/weir-postgres-XXXXXX");
    assert_non_null(mkdtemp(s->folder));
    snprintf(path, sizeof path, "%s/password", s->folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fprintf(f, POSTGRES_PASSWORD "\n");
    fclose(f);
    struct passwd *owner = getuid() == 0 ? getpwnam("postgres") : NULL;
    if (owner != NULL) {
        assert_int_equal(chown(s->folder, owner->pw_uid, owner->pw_gid), 0);
        assert_int_equal(chown(path, owner->pw_uid, owner->pw_gid), 0);
    }
}

static void
init_data(struct postgres_server *s)
{
    char bin[128];
    int status = -1;
    find_bin(bin, sizeof bin, "initdb");
    char *const argv[] = {bin,
                          "-D",
                          "data",
                          "-U",
                          "weir",
                          "--auth",
                          "scram-sha-256",
                          "--pwfile",
                          "password",
                          "--no-sync",
                          "--no-instructions",
                          "--locale",
                          "C.UTF-8",
                          "--encoding",
                          "UTF8",
                          NULL};
    assert_int_equal(waitpid(launch(s, argv), &status, 0) > 0, 1);
    assert_int_equal(status, 0);
}

static PGconn *
connect_to(const struct postgres_server *s, const char *database)
{
    char url[160];
    postgres_server_url(s, url, sizeof url, database);
    return PQconnectdb(url);
}

static bool
answers(const struct postgres_server *s)
{
    PGconn *c = connect_to(s, "postgres");
    bool ok = PQstatus(c) == CONNECTION_OK;
    PQfinish(c);
    return ok;
}

static void
launch_server(struct postgres_server *s)
{
    char bin[128], port[16];
    find_bin(bin, sizeof bin, "postgres");
    snprintf(port, sizeof port, "%d", s->port);
    char *const argv[] = {bin,
                          "-D",
                          "data",
                          "-p",
                          port,
                          "-k",
                          s->folder,
                          "-c",
                          "listen_addresses=127.0.0.1",
                          "-c",
                          "shared_buffers=32MB",
                          s->setting == NULL ? NULL : "-c",
                          (char *)s->setting,
                          NULL};
    s->pid = launch(s, argv);
}

/* While children of one that was killed still end, a new one gives up at once: it is tried again. */
void
postgres_server_start(struct postgres_server *s)
{
    if (s->port == 0) {
        make_folder(s);
        init_data(s);
    }
    launch_server(s);
    int64_t until_ns = clock_mono_ns() + DEADLINE_NS;
    while (!answers(s)) {
        assert_true(clock_mono_ns() < until_ns);
        if (waitpid(s->pid, NULL, WNOHANG) == s->pid) {
            launch_server(s);
        }
        usleep(10000);
    }
}

/* Calls for the server's direct children; gives how many there were. */
static unsigned
each_child(const struct postgres_server *s, int signal_number)
{
    unsigned n = 0;
    DIR *all = opendir("/proc");
    assert_non_null(all);
    for (struct dirent *d = readdir(all); d != NULL; d = readdir(all)) {
        char path[300], state;
        int pid = 0, parent = 0;
        snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
        FILE *f = d->d_name[0] >= '1' && d->d_name[0] <= '9' ? fopen(path, "r") : NULL;
        if (f == NULL) {
            continue;
        }
        if (fscanf(f, "%d (%*[^)]) %c %d", &pid, &state, &parent) == 3 && parent == s->pid) {
            kill(pid, signal_number);
            n++;
        }
        fclose(f);
    }
    closedir(all);
    return n;
}

void
postgres_server_pause(struct postgres_server *s)
{
    kill(s->pid, SIGSTOP); /* first, so that it starts no more */
    assert_true(each_child(s, SIGSTOP) > 0);
}

void
postgres_server_resume(struct postgres_server *s)
{
    (void)each_child(s, SIGCONT);
    kill(s->pid, SIGCONT);
}

/* Its children notice that it died; a new one does not start before they have ended. */
void
postgres_server_kill(struct postgres_server *s)
{
    if (s->pid > 0) {
        kill(s->pid, SIGKILL);
        waitpid(s->pid, NULL, 0);
        s->pid = 0;
    }
}

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void
postgres_server_end(struct postgres_server *s)
{
    if (s->pid > 0) {
        postgres_server_resume(s);
        kill(s->pid, SIGQUIT); /* it ends its children itself */
        waitpid(s->pid, NULL, 0);
    }
    if (s->folder[0] != '\0') {
        nftw(s->folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    }
    *s = (struct postgres_server){0};
}

void
postgres_server_url(const struct postgres_server *s, char *out, size_t size, const char *database)
{
    snprintf(out, size, "postgresql://weir:" POSTGRES_PASSWORD "@127.0.0.1:%d/%s", s->port,
             database);
}

static PGresult *
run(struct postgres_server *s, const char *database, const char *sql)
{
    PGconn *c = connect_to(s, database);
    PGresult *r = PQexec(c, sql);
    ExecStatusType got = PQresultStatus(r);
    if (got != PGRES_TUPLES_OK && got != PGRES_COMMAND_OK) {
        print_error("%s\n", PQerrorMessage(c));
        PQclear(r);
        PQfinish(c);
        fail_msg("%s", sql);
    }
    PQfinish(c);
    return r;
}

void
postgres_server_do(struct postgres_server *s, const char *database, const char *sql)
{
    PQclear(run(s, database, sql));
}

void
postgres_server_text(struct postgres_server *s, char *out, size_t size, const char *database,
                     const char *sql)
{
    PGresult *r = run(s, database, sql);
    snprintf(out, size, "%s", PQntuples(r) > 0 ? PQgetvalue(r, 0, 0) : "");
    PQclear(r);
}

int64_t
postgres_server_number(struct postgres_server *s, const char *database, const char *sql)
{
    char text[64];
    postgres_server_text(s, text, sizeof text, database, sql);
    return strtoll(text, NULL, 10);
}

void
postgres_server_create(struct postgres_server *s, const char *database, const char *like)
{
    char sql[256];
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE %s", database, like);
    postgres_server_do(s, "postgres", sql);
}

void
postgres_server_drop(struct postgres_server *s, const char *database)
{
    char sql[256];
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", database);
    postgres_server_do(s, "postgres", sql);
}
