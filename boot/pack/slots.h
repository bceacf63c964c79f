/* Which of two kernels to start: a record of tries, in eight bytes of CMOS that survive a reset.
 *
 * The loader counts a try before it starts a kernel; the kernel, once its node is ready, takes the
 * count back. A kernel that never gets so far is left alone after SLOTS_TRIES starts, and the other
 * one runs. The record names the kernels by 16 bits of their checksums, so that a new one begins
 * with no tries; a record that is not valid counts as one of new kernels. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define SLOTS       2
#define SLOTS_TRIES 3
#define SLOTS_NONE  SLOTS

#define SLOTS_CMOS  0x70 /* first byte; firmware and QEMU use none above 0x5f */
#define SLOTS_BYTES 8

struct slots {
    uint8_t tries[SLOTS]; /* starts since it was last ready */
    bool good[SLOTS];     /* it has been ready once */
    uint16_t print[SLOTS];
};

/* Returns false, and *s is that of new kernels, when the bytes hold no record. */
bool slots_decode(struct slots *s, const uint8_t bytes[SLOTS_BYTES]);
void slots_encode(const struct slots *s, uint8_t bytes[SLOTS_BYTES]);

/* Say which kernel is in a slot. */
void slots_is(struct slots *s, unsigned slot, uint32_t checksum);

/* The slot to start: `active` if it may, else the other; SLOTS_NONE when none is usable. When all
 * usable ones have used up their tries they get new ones: a node tries rather than stands still. */
unsigned slots_choose(struct slots *s, unsigned active, const bool usable[SLOTS]);

void slots_count_try(struct slots *s, unsigned slot);
void slots_mark_bad(struct slots *s, unsigned slot);
void slots_mark_good(struct slots *s, unsigned slot);
