#include "dedup/breaker.h"

#include "log.h"

bool
breaker_is_open(const struct breaker *k)
{
    return k->wait_ms != 0 && k->env->mono_ms(k->env) < k->until_ms;
}

void
breaker_trip(struct breaker *k, const char *why)
{
    int64_t now_ms = k->env->mono_ms(k->env);
    if (k->wait_ms == 0) {
        char shown[LOG_VALUE_MAX];
        log_warn(k->env->log, "dedup.redis.away", "for=%s why=\"%s\" then=\"%s\"", k->what,
                 log_value(shown, span_of(why)), k->then);
        k->since_ms = now_ms;
        k->wait_ms = BREAKER_FIRST_MS;
    } else {
        k->wait_ms = k->wait_ms * 2 > k->most_ms ? k->most_ms : k->wait_ms * 2;
    }
    int64_t half = k->wait_ms / 2;
    k->until_ms = now_ms + half + (int64_t)(k->env->random(k->env) % (uint64_t)(half + 1));
}

void
breaker_mend(struct breaker *k)
{
    if (k->wait_ms != 0) {
        log_info(k->env->log, "dedup.redis.back", "for=%s after_ms=%lld", k->what,
                 (long long)(k->env->mono_ms(k->env) - k->since_ms));
        k->wait_ms = 0;
    }
}
