#include "boot/pack/slots.h"

/* Bytes: magic, a slot's tries and mark twice, two fingerprints of two bytes, a sum. */
#define MAGIC 0x4f
#define GOOD  0x80
#define TRIES 0x0f
#define SUM   (SLOTS_BYTES - 1)

static uint8_t sum_of(const uint8_t bytes[SLOTS_BYTES])
{
    uint8_t sum = 0x5a; /* all zeros and all ones are no record */
    for (unsigned i = 0; i < SUM; i++) {
        sum = (uint8_t)((sum << 1 | sum >> 7) ^ bytes[i]);
    }
    return sum;
}

bool slots_decode(struct slots *s, const uint8_t bytes[SLOTS_BYTES])
{
    *s = (struct slots){{0}, {false}, {0}};
    if (bytes[0] != MAGIC || bytes[SUM] != sum_of(bytes)) {
        return false;
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        s->tries[i] = bytes[1 + i] & TRIES;
        s->good[i] = (bytes[1 + i] & GOOD) != 0;
        s->print[i] = (uint16_t)(bytes[3 + 2 * i] | bytes[4 + 2 * i] << 8);
    }
    return true;
}

void slots_encode(const struct slots *s, uint8_t bytes[SLOTS_BYTES])
{
    bytes[0] = MAGIC;
    for (unsigned i = 0; i < SLOTS; i++) {
        bytes[1 + i] = (uint8_t)(s->tries[i] | (s->good[i] ? GOOD : 0));
        bytes[3 + 2 * i] = (uint8_t)s->print[i];
        bytes[4 + 2 * i] = (uint8_t)(s->print[i] >> 8);
    }
    bytes[SUM] = sum_of(bytes);
}

void slots_is(struct slots *s, unsigned slot, uint32_t checksum)
{
    uint16_t print = (uint16_t)(checksum ^ checksum >> 16);
    if (s->print[slot] != print) {
        s->print[slot] = print;
        s->tries[slot] = 0;
        s->good[slot] = false;
    }
}

unsigned slots_choose(struct slots *s, unsigned active, const bool usable[SLOTS])
{
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < SLOTS; i++) {
            unsigned slot = (active + i) % SLOTS;
            if (usable[slot] && s->tries[slot] < SLOTS_TRIES) {
                return slot;
            }
        }
        s->tries[0] = s->tries[1] = 0;
    }
    return SLOTS_NONE;
}

void slots_count_try(struct slots *s, unsigned slot)
{
    if (s->tries[slot] < SLOTS_TRIES) {
        s->tries[slot]++;
    }
}

void slots_mark_bad(struct slots *s, unsigned slot)
{
    s->tries[slot] = SLOTS_TRIES;
    s->good[slot] = false;
}

void slots_mark_good(struct slots *s, unsigned slot)
{
    s->tries[slot] = 0;
    s->good[slot] = true;
}
