#include "cmd/source.h"

#include "buf.h"
#include "cmd/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 * 1024)

enum form { FORM_LINES, FORM_ARRAY, FORM_OBJECT };

struct source {
    int fd;
    bool at_end; /* of the file */
    enum form form;
    struct buf buf;
    size_t at;         /* in buf: what was handed out */
    size_t searched;   /* in buf: no line break between at and here */
    uint64_t line;     /* of buf.at[at], from 1 */
    uint64_t consumed; /* bytes dropped from the front of buf */
    uint64_t total;
};

/* Reads some more; OK also at the end of the file. */
static enum err
fill(struct source *s)
{
    if (s->at > s->buf.len / 2) {
        buf_consume(&s->buf, s->at);
        s->consumed += s->at;
        s->searched -= s->at < s->searched ? s->at : s->searched;
        s->at = 0;
    }
    enum err e = buf_reserve(&s->buf, READ_BYTES);
    if (e != OK) {
        return e;
    }
    ssize_t n;
    do {
        n = read(s->fd, s->buf.at + s->buf.len, READ_BYTES);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return ERR_IO;
    }
    s->at_end = n == 0;
    s->buf.len += (size_t)n;
    return OK;
}

static enum err
fill_to(struct source *s, size_t bytes)
{
    enum err e = OK;
    while (e == OK && !s->at_end && s->buf.len - s->at < bytes) {
        e = fill(s);
    }
    return e;
}

static struct span
rest(const struct source *s)
{
    return (struct span){s->buf.at + s->at, s->buf.len - s->at};
}

static void
advance(struct source *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        s->line += s->buf.at[s->at + i] == '\n';
    }
    s->at += n;
}

/* Is there one value and nothing after it? */
static bool
is_one_value(struct span text)
{
    return scan_value(&text).at != NULL && scan_blank(text).len == 0;
}

/* A first line that is no whole value may begin an object over several lines, if that is all there
 * is; otherwise it is a broken line among others. */
static enum err
detect_object(struct source *s)
{
    const char *end = NULL;
    while (end == NULL && !s->at_end && s->buf.len - s->at <= SOURCE_LINE_MAX) {
        enum err e = fill(s);
        if (e != OK) {
            return e;
        }
        end = memchr(s->buf.at + s->at, '\n', s->buf.len - s->at);
    }
    size_t len = end == NULL ? s->buf.len - s->at : (size_t)(end - (s->buf.at + s->at));
    if (is_one_value((struct span){s->buf.at + s->at, len})) {
        return OK;
    }
    enum err e = fill_to(s, SOURCE_LINE_MAX + 1);
    if (e == OK && s->at_end && is_one_value(rest(s))) {
        s->form = FORM_OBJECT;
    }
    return e;
}

static enum err
check_array(struct source *s, char why[SOURCE_WHY_MAX])
{
    enum err e = fill_to(s, SOURCE_ARRAY_MAX + 1);
    if (e != OK) {
        return e;
    }
    if (!s->at_end) {
        snprintf(why, SOURCE_WHY_MAX,
                 "a JSON array of more than %zu MiB; write one event a line (NDJSON) instead, "
                 "for example with: jq -c '.[]'",
                 SOURCE_ARRAY_MAX / 1024 / 1024);
        return ERR_INVALID;
    }
    struct span at = rest(s);
    while (scan_item(&at).at != NULL) {
    }
    struct span tail = scan_blank(at);
    bool empty = tail.len > 0 && tail.at[0] == '[';
    tail = empty ? scan_blank((struct span){tail.at + 1, tail.len - 1}) : tail;
    if (tail.len == 0 || tail.at[0] != ']' ||
        scan_blank((struct span){tail.at + 1, tail.len - 1}).len > 0) {
        advance(s, s->buf.len - s->at - tail.len);
        snprintf(why, SOURCE_WHY_MAX, "line %llu: not a whole JSON array: expected , or ]",
                 (unsigned long long)s->line);
        return ERR_INVALID;
    }
    s->form = FORM_ARRAY;
    return OK;
}

static enum err
detect(struct source *s, char why[SOURCE_WHY_MAX])
{
    enum err e = fill(s);
    if (e == OK && s->buf.len >= 3 && memcmp(s->buf.at, "\xef\xbb\xbf", 3) == 0) {
        s->at = 3; /* a byte order mark, as some editors write it */
    }
    while (e == OK && scan_blank(rest(s)).len == 0 && !s->at_end) {
        advance(s, s->buf.len - s->at);
        e = fill(s);
    }
    if (e != OK) {
        return e;
    }
    struct span first = scan_blank(rest(s));
    if (first.len == 0) {
        return OK;
    }
    advance(s, s->buf.len - s->at - first.len);
    s->searched = s->at;
    return first.at[0] == '[' ? check_array(s, why) : first.at[0] == '{' ? detect_object(s) : OK;
}

enum err
source_open(struct source **out, const char *path, char why[SOURCE_WHY_MAX])
{
    struct source *s = calloc(1, sizeof *s);
    if (s == NULL) {
        snprintf(why, SOURCE_WHY_MAX, "%s", err_text(ERR_NOMEM));
        return ERR_NOMEM;
    }
    s->line = 1;
    why[0] = '\0';
    enum err e = ERR_IO;
    s->fd = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (s->fd < 0 || fstat(s->fd, &st) != 0) {
        goto fail;
    }
    s->total = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    e = detect(s, why);
    if (e != OK) {
        goto fail;
    }
    *out = s;
    return OK;
fail:
    if (why[0] == '\0') {
        snprintf(why, SOURCE_WHY_MAX, "%s", e == ERR_IO ? strerror(errno) : err_text(e));
    }
    source_close(s);
    return e;
}

void
source_close(struct source *s)
{
    if (s == NULL) {
        return;
    }
    if (s->fd >= 0) {
        close(s->fd);
    }
    buf_fini(&s->buf);
    free(s);
}

/* Finds the end of the line at s->at; *len without its line break. */
static enum err
find_line(struct source *s, size_t *len, size_t *with_break)
{
    for (;;) {
        size_t from = s->searched > s->at ? s->searched : s->at;
        const char *end =
            s->buf.len > from ? memchr(s->buf.at + from, '\n', s->buf.len - from) : NULL;
        if (end != NULL) {
            *len = (size_t)(end - (s->buf.at + s->at));
            *with_break = *len + 1;
            return OK;
        }
        s->searched = s->buf.len;
        *len = *with_break = s->buf.len - s->at;
        if (s->at_end) {
            return *len == 0 ? ERR_NOT_FOUND : OK;
        }
        if (*len > SOURCE_LINE_MAX) {
            return ERR_INVALID;
        }
        enum err e = fill(s);
        if (e != OK) {
            return e;
        }
    }
}

/* Drops what is left of a line that is too long to hold. */
static enum err
skip_line(struct source *s)
{
    size_t len, with_break;
    enum err e;
    do {
        s->at = s->buf.len;
        e = fill(s);
        if (e == OK) {
            e = find_line(s, &len, &with_break);
        }
    } while (e == ERR_INVALID);
    if (e == OK) {
        s->at += with_break;
    }
    return e == ERR_NOT_FOUND ? OK : e;
}

static enum err
next_line(struct source *s, struct source_item *item)
{
    for (;;) {
        size_t len, with_break;
        enum err e = find_line(s, &len, &with_break);
        if (e == ERR_INVALID) {
            *item =
                (struct source_item){.line = s->line++, .problem = "a line of more than 16 MiB"};
            return skip_line(s);
        }
        if (e != OK) {
            return e;
        }
        struct span line = {s->buf.at + s->at, len};
        uint64_t number = s->line++;
        s->at += with_break;
        if (scan_blank(line).len > 0) {
            line.len -= line.at[line.len - 1] == '\r';
            *item = (struct source_item){.text = line, .line = number};
            return OK;
        }
    }
}

/* Makes one line of it. A raw line break within a string is an error for the server to find: it
 * becomes another control character, which is the same error. */
static void
flatten(char *at, size_t len)
{
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        if (in_string && at[i] == '\\') {
            i++;
        } else if (at[i] == '"') {
            in_string = !in_string;
        } else if (at[i] == '\n' || at[i] == '\r') {
            at[i] = in_string ? '\t' : ' ';
        }
    }
}

static enum err
next_value(struct source *s, struct source_item *item)
{
    struct span at = rest(s);
    struct span value = s->form == FORM_ARRAY ? scan_item(&at) : scan_value(&at);
    if (value.at == NULL) {
        s->at = s->buf.len;
        return ERR_NOT_FOUND;
    }
    size_t before = (size_t)(value.at - (s->buf.at + s->at));
    advance(s, before);
    *item = (struct source_item){.text = value, .line = s->line};
    advance(s, value.len);
    flatten(s->buf.at + s->at - value.len, value.len);
    return OK;
}

enum err
source_next(struct source *s, struct source_item *item)
{
    return s->form == FORM_LINES ? next_line(s, item) : next_value(s, item);
}

void
source_progress(const struct source *s, uint64_t *done, uint64_t *total)
{
    *done = s->consumed + s->at;
    *total = s->total;
}
