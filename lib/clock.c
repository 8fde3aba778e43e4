#include "clock.h"

#include <stdio.h>
#include <time.h>

int64_t
clock_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
clock_mono_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

size_t
clock_format_rfc3339(char out[CLOCK_RFC3339_MAX], int64_t wall_ms)
{
    int64_t s = wall_ms / 1000;
    int64_t ms = wall_ms % 1000;
    if (ms < 0) {
        ms += 1000;
        s -= 1;
    }
    time_t t = (time_t)s;
    struct tm tm;
    gmtime_r(&t, &tm);
    int year = tm.tm_year + 1900;
    if (year < 0 || year > 9999) {
        year = year < 0 ? 0 : 9999;
    }
    return (size_t)snprintf(out, CLOCK_RFC3339_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year,
                            (tm.tm_mon + 1) % 100, tm.tm_mday % 100, tm.tm_hour % 100,
                            tm.tm_min % 100, tm.tm_sec % 100, (int)ms % 1000);
}

/* Reads exactly `digits` digits at *at and moves past them; -1 where one is missing. */
static int
take_digits(struct span text, size_t *at, int digits)
{
    int value = 0;
    for (int i = 0; i < digits; i++, (*at)++) {
        if (*at >= text.len || text.at[*at] < '0' || text.at[*at] > '9') {
            return -1;
        }
        value = value * 10 + (text.at[*at] - '0');
    }
    return value;
}

static bool
take_char(struct span text, size_t *at, const char *any_of)
{
    if (*at >= text.len || text.at[*at] == '\0' || strchr(any_of, text.at[*at]) == NULL) {
        return false;
    }
    (*at)++;
    return true;
}

/* Days since 1970-01-01 of a Gregorian date (H. Hinnant, "chrono-compatible low-level date
 * algorithms"). */
static int64_t
days_from_civil(int y, int m, int d)
{
    y -= m <= 2;
    int era = (y >= 0 ? y : y - 399) / 400;
    int yoe = y - era * 400;
    int doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    int doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return (int64_t)era * 146097 + doe - 719468;
}

static int
days_in_month(int y, int m)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m == 2 && leap ? 29 : days[m - 1];
}

struct civil {
    int y, mo, d, h, mi, s, ms, offset_minutes;
};

static const char *
parse_date(struct span text, size_t *at, struct civil *c)
{
    c->y = take_digits(text, at, 4);
    bool dash1 = take_char(text, at, "-");
    c->mo = take_digits(text, at, 2);
    bool dash2 = take_char(text, at, "-");
    c->d = take_digits(text, at, 2);
    if (c->y < 0 || !dash1 || c->mo < 0 || !dash2 || c->d < 0) {
        return "expected an RFC 3339 date-time such as 2026-02-03T12:30:00Z";
    }
    if (c->mo < 1 || c->mo > 12 || c->d < 1 || c->d > days_in_month(c->y, c->mo)) {
        return "no such date in the calendar";
    }
    return NULL;
}

static const char *
parse_time(struct span text, size_t *at, struct civil *c)
{
    bool t = take_char(text, at, "Tt");
    c->h = take_digits(text, at, 2);
    bool colon1 = take_char(text, at, ":");
    c->mi = take_digits(text, at, 2);
    bool colon2 = take_char(text, at, ":");
    c->s = take_digits(text, at, 2);
    if (!t || c->h < 0 || !colon1 || c->mi < 0 || !colon2 || c->s < 0) {
        return "expected an RFC 3339 date-time such as 2026-02-03T12:30:00Z";
    }
    if (c->h > 23 || c->mi > 59 || c->s > 60) {
        return "no such time of day";
    }
    if (take_char(text, at, ".")) {
        size_t first = *at;
        int scale = 100;
        while (*at < text.len && text.at[*at] >= '0' && text.at[*at] <= '9') {
            c->ms += (text.at[*at] - '0') * scale;
            scale /= 10;
            (*at)++;
        }
        if (*at == first) {
            return "expected digits after the decimal point of the seconds";
        }
    }
    return NULL;
}

static const char *
parse_offset(struct span text, size_t *at, struct civil *c)
{
    if (take_char(text, at, "Zz")) {
        return NULL;
    }
    bool minus = *at < text.len && text.at[*at] == '-';
    bool sign = take_char(text, at, "+-");
    int h = take_digits(text, at, 2);
    bool colon = take_char(text, at, ":");
    int m = take_digits(text, at, 2);
    if (!sign || h < 0 || !colon || m < 0) {
        return "expected an offset at the end: Z, +hh:mm or -hh:mm";
    }
    if (h > 23 || m > 59) {
        return "no such offset";
    }
    c->offset_minutes = (h * 60 + m) * (minus ? -1 : 1);
    return NULL;
}

const char *
clock_parse_rfc3339(struct span text, int64_t *out)
{
    struct civil c = {0};
    size_t at = 0;
    const char *wrong = parse_date(text, &at, &c);
    if (wrong == NULL) {
        wrong = parse_time(text, &at, &c);
    }
    if (wrong == NULL) {
        wrong = parse_offset(text, &at, &c);
    }
    if (wrong != NULL) {
        return wrong;
    }
    if (at != text.len) {
        return "unexpected characters after the date-time";
    }
    int64_t minutes = days_from_civil(c.y, c.mo, c.d) * 1440 + c.h * 60 + c.mi - c.offset_minutes;
    if (c.s == 60 && ((minutes % 1440) + 1440) % 1440 != 1439) {
        return "a second of 60 exists only at 23:59:60 UTC";
    }
    *out = (minutes * 60 + c.s) * 1000 + c.ms;
    return NULL;
}
