#include "kernel/log_keep.h"

#include <string.h>

#include "base/layout.h"
#include "kernel/kernel.h"
#include "kernel/log.h"
#include "mm/slab.h"

#define MAGIC UINT64_C(0x6e6f636f6874726f) /* "orthocon" */

struct keep {
    uint64_t magic;
    uint64_t head; /* bytes ever written; the next goes to head % sizeof(bytes) */
    uint64_t sum;  /* of head and, weighted by place, of all bytes: see place_sum() */
    char bytes[LOG_KEEP_BYTES - 24];
};
_Static_assert(sizeof(struct keep) == LOG_KEEP_BYTES, "size of the kept log");

static struct keep *keep; /* NULL: there is no memory at its place, or it is too early */
static const char *previous;

/* What one byte contributes, so that the sum can follow when a byte changes. */
static uint64_t place_sum(size_t at, char byte)
{
    return (uint64_t)(uint8_t)byte * (at * 2654435761u + 1);
}

static uint64_t whole_sum(const struct keep *k)
{
    uint64_t sum = k->head;
    for (size_t i = 0; i < sizeof(k->bytes); i++) {
        sum += place_sum(i, k->bytes[i]);
    }
    return sum;
}

void log_keep_text(const char *s, size_t len)
{
    for (size_t i = 0; keep && i < len; i++) {
        size_t at = keep->head % sizeof(keep->bytes);
        keep->sum += place_sum(at, s[i]) - place_sum(at, keep->bytes[at]) + 1; /* 1: head moves */
        keep->bytes[at] = s[i];
        keep->head++;
    }
}

static bool is_ram(void)
{
    for (uint32_t i = 0; i < nk_bootinfo.range_count; i++) {
        const struct bootinfo_range *r = &nk_bootinfo.range[i];
        if (r->kind == BOOTINFO_RAM && r->base <= LOG_KEEP_PA &&
            r->base + r->length >= LOG_KEEP_PA + LOG_KEEP_BYTES) {
            return true;
        }
    }
    return false;
}

/* From the first whole line on, in order. */
static const char *copy_text(const struct keep *k)
{
    uint64_t size = k->head < sizeof(k->bytes) ? k->head : sizeof(k->bytes);
    uint64_t from = k->head - size;
    while (size && k->head > sizeof(k->bytes) && k->bytes[from++ % sizeof(k->bytes)] != '\n') {
        size--;
    }
    from = k->head - size;
    char *text = kmalloc(size + 1);
    if (text) {
        for (uint64_t i = 0; i < size; i++) {
            text[i] = k->bytes[(from + i) % sizeof(k->bytes)];
        }
        text[size] = '\0';
    }
    return text;
}

void log_keep_start(void)
{
    if (!is_ram()) {
        nk_info("log: no memory at 0x%llx to keep it for the next boot",
                (unsigned long long)LOG_KEEP_PA);
        return;
    }
    struct keep *k = nk_pa_to_va(NK_PA(LOG_KEEP_PA));
    if (k->magic == MAGIC && k->head && whole_sum(k) == k->sum) {
        previous = copy_text(k);
    }
    memset(k, 0, sizeof(*k));
    k->magic = MAGIC;
    keep = k;
    nk_log_replay(log_keep_text);
    if (previous) {
        nk_info("log: that of the previous boot is there: \"log previous\"");
    }
}

const char *log_keep_previous(void)
{
    return previous;
}
