#include "config.h"

#include "config_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1024 * 1024) /* bytes of a configuration file */
#define READ_SIZE 4096
#define FILE_DEFAULT "weir.conf"
#define VALUE_WIDTH 24 /* of the column in config_print */

#define NO_PLACE ((struct config_place){CONFIG_FROM_DEFAULT, 0})

/* file */

static bool
is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

static struct span
trim(struct span s)
{
    while (s.len > 0 && is_blank(s.at[0])) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.at[s.len - 1])) {
        s.len--;
    }
    return s;
}

static struct span
drop_comment(struct span line)
{
    for (size_t i = 0; i < line.len; i++) {
        if (line.at[i] == '#' && (i == 0 || is_blank(line.at[i - 1]))) {
            line.len = i;
        }
    }
    return trim(line);
}

static void
read_pair(struct config_load *l, unsigned number, struct span key, struct span value)
{
    struct config_place here = {CONFIG_FROM_FILE, number};
    enum config_row row = config_find(CONFIG_AS_KEY, key);
    if (row == CONFIG_ROWS) {
        config_refuse_name(l, here, key);
        return;
    }
    if (l->seen[row] != 0) {
        char why[64];
        snprintf(why, sizeof why, "set twice; expected once, and line %u has it", l->seen[row]);
        config_refuse(l, here, key, why);
        return;
    }
    l->seen[row] = number;
    config_set(l, row, value, here);
}

static void
read_line(struct config_load *l, unsigned number, struct span line)
{
    line = drop_comment(line);
    if (line.len == 0) {
        return;
    }
    const char *equals = memchr(line.at, '=', line.len);
    if (equals == NULL) {
        config_refuse(l, (struct config_place){CONFIG_FROM_FILE, number}, line,
                      "no = in this line; expected key = value");
        return;
    }
    struct span key = {line.at, (size_t)(equals - line.at)};
    struct span value = {equals + 1, line.len - key.len - 1};
    read_pair(l, number, trim(key), trim(value));
}

static void
read_lines(struct config_load *l, struct span text)
{
    unsigned number = 1;
    if (text.len >= 3 && memcmp(text.at, "\xEF\xBB\xBF", 3) == 0) { /* what some editors write */
        text.at += 3;
        text.len -= 3;
    }
    while (text.len > 0) {
        const char *end = memchr(text.at, '\n', text.len);
        size_t len = end == NULL ? text.len : (size_t)(end - text.at);
        read_line(l, number++, (struct span){text.at, len});
        len += end != NULL;
        text.at += len;
        text.len -= len;
    }
}

static enum err
read_all(int fd, struct buf *out)
{
    for (;;) {
        if (buf_reserve(out, READ_SIZE) != OK) {
            errno = out->len + READ_SIZE > FILE_MAX ? EFBIG : ENOMEM;
            return ERR_IO;
        }
        ssize_t n = read(fd, out->at + out->len, READ_SIZE);
        if (n == 0) {
            return OK;
        }
        if (n > 0) {
            out->len += (size_t)n;
        } else if (errno != EINTR) {
            return ERR_IO;
        }
    }
}

/* `must`: the user named it, so that it has to be there. */
static void
read_file(struct config_load *l, const char *name, bool must)
{
    struct buf text;
    buf_init(&text, FILE_MAX);
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && !must) {
        return;
    }
    if (fd < 0 || read_all(fd, &text) != OK) {
        config_refuse(l, NO_PLACE, span_of(name), strerror(errno));
    } else if ((l->cfg->file = strdup(name)) == NULL) {
        l->nomem = true;
    } else {
        read_lines(l, buf_span(&text));
    }
    if (fd >= 0) {
        close(fd);
    }
    buf_fini(&text);
}

/* environment */

static bool
ends_with(struct span text, const char *end)
{
    size_t len = strlen(end);
    return text.len >= len && memcmp(text.at + text.len - len, end, len) == 0;
}

/* Kubernetes puts variables of this form into every container next to a service named weir or
 * weir-something: WEIR_SERVICE_HOST, WEIR_PORT=tcp://…, WEIR_API_PORT_3000_TCP_ADDR. They are not
 * meant for us. */
static bool
is_service_link(struct span name, struct span value)
{
    return memmem(name.at, name.len, "_SERVICE_HOST", 13) != NULL ||
           memmem(name.at, name.len, "_SERVICE_PORT", 13) != NULL ||
           (memmem(name.at, name.len, "_PORT_", 6) != NULL &&
            (memmem(name.at, name.len, "_TCP", 4) != NULL ||
             memmem(name.at, name.len, "_UDP", 4) != NULL)) ||
           (ends_with(name, "_PORT") && memmem(value.at, value.len, "://", 3) != NULL);
}

static void
read_variable(struct config_load *l, struct span name, struct span value)
{
    struct config_place here = {CONFIG_FROM_ENVIRONMENT, 0};
    enum config_row row = config_find(CONFIG_AS_VARIABLE, name);
    if (row != CONFIG_ROWS) {
        config_set(l, row, value, here);
    } else if (!span_eq(name, SPAN("WEIR_CONFIG")) && !is_service_link(name, value)) {
        config_refuse_name(l, here, name);
    }
}

static void
read_environment(struct config_load *l, char *const *envp)
{
    for (; *envp != NULL; envp++) {
        const char *equals = strchr(*envp, '=');
        if (strncmp(*envp, "WEIR_", 5) == 0 && equals != NULL) {
            struct span name = {*envp, (size_t)(equals - *envp)};
            read_variable(l, name, span_of(equals + 1));
        }
    }
}

/* flags */

/* One argument that is a flag, or that is not. */
struct flag {
    struct span name;
    const char *value; /* NULL: none */
    int taken;         /* arguments */
};

static bool
next_flag(struct flag *out, int argc, char **argv)
{
    if (argv[0][0] != '-' || argv[0][1] == '\0') {
        return false; /* a lone - is standard input */
    }
    const char *equals = strchr(argv[0], '=');
    if (equals != NULL) {
        *out = (struct flag){{argv[0], (size_t)(equals - argv[0])}, equals + 1, 1};
    } else if (argc > 1 && strncmp(argv[1], "--", 2) != 0) {
        *out = (struct flag){span_of(argv[0]), argv[1], 2};
    } else {
        *out = (struct flag){span_of(argv[0]), NULL, 1};
    }
    return true;
}

static const struct span config_flag = {"--config", 8};

/* An unknown flag takes no argument with it: which are its values is not known. */
static int
read_flag(struct config_load *l, const struct flag *f)
{
    struct config_place here = {CONFIG_FROM_FLAG, 0};
    enum config_row row = config_find(CONFIG_AS_FLAG, f->name);
    bool is_config = span_eq(f->name, config_flag);
    if (row == CONFIG_ROWS && !is_config) {
        config_refuse_name(l, here, f->name);
        return 1;
    }
    if (f->value == NULL) {
        config_refuse(l, here, f->name, "no value; expected one after a space or =");
    } else if (!is_config) {
        config_set(l, row, span_of(f->value), here);
    }
    return f->taken;
}

/* Reads the flags, and moves what is none to the front. */
static void
read_flags(struct config_load *l, int *argc, char **argv)
{
    int kept = 0;
    bool only_words = false;
    for (int i = 0; i < *argc;) {
        struct flag f;
        if (!only_words && strcmp(argv[i], "--") == 0) {
            only_words = true;
            i++;
        } else if (!only_words && next_flag(&f, *argc - i, argv + i)) {
            i += read_flag(l, &f);
        } else {
            argv[kept++] = argv[i++];
        }
    }
    *argc = kept;
}

/* all of it */

/* The name that --config or WEIR_CONFIG gives, or NULL. */
static const char *
named_file(int argc, char **argv, char *const *envp)
{
    const char *name = NULL;
    for (; *envp != NULL; envp++) {
        name = strncmp(*envp, "WEIR_CONFIG=", 12) == 0 ? *envp + 12 : name;
    }
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0;) {
        struct flag f = {.taken = 1};
        if (next_flag(&f, argc - i, argv + i) && span_eq(f.name, config_flag)) {
            name = f.value == NULL ? name : f.value;
        }
        i += f.taken;
    }
    return name;
}

static enum err
load_result(struct config_load *l)
{
    if (l->nomem || !buf_ok(l->errors)) {
        return ERR_NOMEM;
    }
    return l->errors->len == 0 ? OK : ERR_CONFIG;
}

enum err
config_load(struct config *cfg, int *argc, char **argv, char *const *envp, struct buf *errors)
{
    struct config_load l = {.cfg = cfg, .errors = errors};
    *cfg = (struct config){0};
    config_set_defaults(&l);
    const char *name = named_file(*argc, argv, envp);
    read_file(&l, name == NULL ? FILE_DEFAULT : name, name != NULL);
    read_environment(&l, envp);
    read_flags(&l, argc, argv);
    if (!l.nomem) {
        config_check_rules(errors, cfg, l.bad);
    }
    config_end_errors(&l);
    enum err e = load_result(&l);
    if (e != OK) {
        config_free(cfg);
    }
    return e;
}

void
config_free(struct config *cfg)
{
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        enum config_type type = config_settings[row].type;
        if (type == CONFIG_TEXT || type == CONFIG_CHOICE) {
            free(*(char **)config_field(cfg, row));
        }
    }
    free(cfg->file);
    *cfg = (struct config){0};
}

static int
longest_key(void)
{
    size_t longest = 0;
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        size_t len = strlen(config_settings[row].key);
        longest = len > longest ? len : longest;
    }
    return (int)longest;
}

void
config_print(struct buf *out, const struct config *cfg)
{
    int width = longest_key();
    for (unsigned row = 0; row < CONFIG_ROWS; row++) {
        buf_addf(out, "%-*s = ", width, config_settings[row].key);
        size_t start = out->len;
        config_add_value(out, cfg, row);
        size_t len = out->len - start;
        buf_addf(out, "%*s  # ", len < VALUE_WIDTH ? (int)(VALUE_WIDTH - len) : 0, "");
        config_add_source(out, cfg, row);
        buf_add_text(out, "\n");
    }
    config_add_notes(out, cfg);
}
