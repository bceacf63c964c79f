/* Cyclic time partitions: a CPU repeats a major frame of slots, and each slot belongs to one
 * partition of threads. Within a slot only its partition runs, by the usual rules (priorities,
 * deadlines); what the others do cannot take time from it. Threads that were given no partition are
 * partition 0, and run in slots of 0 only.
 *
 * A CPU with a table takes only threads that are pinned to it or name it in their affinity mask,
 * except CPU 0, which takes all. */
#pragma once

#include "sched/thread.h"

#define NK_PARTITION_MAX       15
#define NK_PARTITION_SLOTS_MAX 32
#define NK_PARTITION_SLOT_MIN  50000 /* ns; shorter slots would be spent on switching */

struct nk_partition_slot {
    unsigned partition;
    uint64_t length_ns;
};

struct nk_partition_table {
    uint64_t frame_ns; /* the slots' lengths add up to it */
    bool slack; /* what a slot's partition leaves unused goes to the others, until it wakes */
    unsigned slot_count;
    struct nk_partition_slot slots[NK_PARTITION_SLOTS_MAX];
};

/* Puts the table in force on the CPU, from now on, in place of the one there. *why (may be NULL)
 * gets a sentence about an error. Errors: -EINVAL, -ENOMEM. Context: a thread that may block. */
int nk_partition_set_table(unsigned cpu, const struct nk_partition_table *table,
                           const char **why) NK_MUST_CHECK;

/* No table any more; nothing happens when there is none. Context: a thread that may block. */
void nk_partition_clear_table(unsigned cpu);

/* From the next time it is picked; a thread put by changes when its old partition's slot comes.
 * Errors: -EINVAL. */
int nk_thread_set_partition(struct nk_thread *t, unsigned partition) NK_MUST_CHECK;

/* Whose slot it is on this CPU; -1: there is no table. Context: the caller stays on its CPU. */
int nk_partition_current(void);

struct nk_partition_info {
    uint64_t slots;     /* begun */
    uint64_t skipped;   /* that were over before this CPU could begin them */
    uint64_t late_max;  /* ticks from when a slot should have begun to when it did */
    uint64_t slack_run; /* times a thread was given the time of another partition */
};
/* Nobody changes the CPU's table meanwhile. */
void nk_partition_get_info(unsigned cpu, struct nk_partition_info *out);
