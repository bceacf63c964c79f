#include "kernel/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/percpu.h"
#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/log_keep.h"

#define RING_BYTES    NK_KIB(CONFIG_LOG_RING_KIB)
#define LOCK_SPIN_MAX 10000000u /* about a second: the holder was stopped by a panic */

struct record_header {
    uint64_t tsc;
    uint8_t level, cpu;
    uint16_t length; /* of the text that follows */
};

/* head and tail count bytes since boot; a record begins at tail and at every following one. */
static struct {
    uint32_t holder; /* CPU number + 1 of who holds the ring, 0: free; protects what follows */
    uint64_t head, tail;
    char bytes[RING_BYTES];
} ring;

static enum nk_log_level console_level = NK_LOG_INFO;
static uint64_t start_tsc;

void nk_log_start(void)
{
    start_tsc = x86_rdtsc();
}

uint64_t nk_log_start_tsc(void)
{
    return start_tsc;
}

/* Not a ticket lock: an NMI or a panic must be able to see who holds it and to give up. */
static bool ring_lock(uint64_t *flags)
{
    *flags = nk_irq_save();
    uint32_t me = this_cpu->id + 1;
    for (unsigned i = 0; i < LOCK_SPIN_MAX; i++) {
        uint32_t holder = 0;
        if (__atomic_compare_exchange_n(&ring.holder, &holder, me, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED)) {
            return true;
        }
        if (holder == me) {
            break;
        }
        x86_pause();
    }
    nk_irq_restore(*flags);
    return false;
}

static void ring_unlock(uint64_t flags)
{
    __atomic_store_n(&ring.holder, 0, __ATOMIC_RELEASE);
    nk_irq_restore(flags);
}

static void ring_put(const void *data, size_t len)
{
    size_t at = ring.head % RING_BYTES;
    size_t first = len < RING_BYTES - at ? len : RING_BYTES - at;
    memcpy(ring.bytes + at, data, first);
    memcpy(ring.bytes, (const char *)data + first, len - first);
    ring.head += len;
}

static void ring_get(uint64_t position, void *data, size_t len)
{
    size_t at = position % RING_BYTES;
    size_t first = len < RING_BYTES - at ? len : RING_BYTES - at;
    memcpy(data, ring.bytes + at, first);
    memcpy((char *)data + first, ring.bytes, len - first);
}

size_t nk_log_format(const struct nk_log_record *r, char *out, size_t size)
{
    static const char *const prefix_table[] = {"error: ", "warning: ", "", "debug: "};
    uint64_t hz = nk_tsc_hz, ticks = r->tsc - start_tsc;
    /* Until the TSC is calibrated every line is at zero. */
    uint64_t seconds = hz ? ticks / hz : 0;
    uint64_t micros = hz ? ticks % hz * 1000000 / hz : 0;
    return nk_snprintf(out, size, "[%5llu.%06llu] %s%s", (unsigned long long)seconds,
                       (unsigned long long)micros, prefix_table[r->level], r->text);
}

static void format_line(const struct nk_log_record *r, void (*put)(const char *s, size_t len))
{
    char line[NK_LOG_TEXT_MAX + 32];
    if (r->level < NK_LOG_DEBUG) {
        size_t length = nk_log_format(r, line, sizeof(line) - 1);
        line[length++] = '\n';
        put(line, length);
    }
}

static void ring_append(const struct nk_log_record *r)
{
    struct record_header h = {r->tsc, (uint8_t)r->level, (uint8_t)r->cpu,
                              (uint16_t)strlen(r->text)};
    uint64_t flags;
    if (!ring_lock(&flags)) {
        return;
    }
    while (ring.head + sizeof(h) + h.length - ring.tail > RING_BYTES) {
        struct record_header oldest;
        ring_get(ring.tail, &oldest, sizeof(oldest));
        ring.tail += sizeof(oldest) + oldest.length;
    }
    ring_put(&h, sizeof(h));
    ring_put(r->text, h.length);
    format_line(r, log_keep_text);
    ring_unlock(flags);
}

bool nk_log_read(uint64_t *cursor, struct nk_log_record *out)
{
    uint64_t flags;
    if (!ring_lock(&flags)) {
        return false;
    }
    uint64_t position = *cursor < ring.tail ? ring.tail : *cursor;
    bool found = position < ring.head;
    if (found) {
        struct record_header h;
        ring_get(position, &h, sizeof(h));
        ring_get(position + sizeof(h), out->text, h.length);
        out->text[h.length] = '\0';
        out->tsc = h.tsc;
        out->level = h.level;
        out->cpu = h.cpu;
        *cursor = position + sizeof(h) + h.length;
    }
    ring_unlock(flags);
    return found;
}

void nk_log_replay(void (*put)(const char *s, size_t len))
{
    struct nk_log_record r;
    uint64_t cursor = 0;
    while (nk_log_read(&cursor, &r)) {
        format_line(&r, put);
    }
}

void nk_log(enum nk_log_level level, const char *fmt, ...)
{
    struct nk_log_record r = {.tsc = x86_rdtsc(), .level = level, .cpu = this_cpu->id};
    va_list ap;
    va_start(ap, fmt);
    size_t length = nk_vsnprintf(r.text, sizeof(r.text), fmt, ap);
    va_end(ap);
    length = length < sizeof(r.text) ? length : sizeof(r.text) - 1;
    if (length && r.text[length - 1] == '\n') {
        r.text[length - 1] = '\0';
    }
    ring_append(&r);
    if (level <= console_level) {
        char line[NK_LOG_TEXT_MAX + 32];
        length = nk_log_format(&r, line, sizeof(line) - 1);
        line[length] = '\n';
        console_write(line, length + 1);
    }
}

void nk_log_set_console_level(enum nk_log_level level)
{
    console_level = level;
}

enum nk_log_level nk_log_get_console_level(void)
{
    return console_level;
}

static const char *const level_name_table[] = {"error", "warn", "info", "debug"};

const char *nk_log_level_name(enum nk_log_level level)
{
    return level_name_table[level];
}

int nk_log_level_parse(const char *s, enum nk_log_level *out)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(level_name_table); i++) {
        if (strcmp(s, level_name_table[i]) == 0 || (s[0] == (char)('0' + i) && !s[1])) {
            *out = (enum nk_log_level)i;
            return 0;
        }
    }
    return -EINVAL;
}
