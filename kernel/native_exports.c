/* The kernel's functions that applications are linked against: the services of their C library and
 * what a program of this kernel wants for itself. */
#include <string.h>

#include "base/platform.h"
#include "kernel/irq.h"
#include "kernel/module.h"
#include "kernel/native_impl.h"
#include "kernel/smp.h"
#include "kernel/time.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/thread.h"
#include "sched/timer.h"

#define EXPORT(name)                                                                               \
    {                                                                                              \
#name, (uint64_t)(uintptr_t)&name                                                          \
    }

static const struct {
    const char *name;
    uint64_t address;
} export_table[] = {
    EXPORT(native_write),
    EXPORT(native_read),
    EXPORT(native_yield),
    EXPORT(native_tls_layout),
    EXPORT(native_set_thread_pointer),
    EXPORT(native_grow),
    EXPORT(native_thread_create),
    EXPORT(native_wait),
    EXPORT(native_wake),
    EXPORT(native_leave),
    EXPORT(native_exit),

    EXPORT(nk_thread_create),
    EXPORT(nk_thread_run),
    EXPORT(nk_thread_start),
    EXPORT(nk_thread_join),
    EXPORT(nk_thread_destroy),
    EXPORT(nk_thread_detach),
    EXPORT(nk_thread_yield),
    EXPORT(nk_thread_exit),
    EXPORT(nk_thread_sleep_until),
    EXPORT(nk_thread_sleep_ns),
    EXPORT(nk_thread_park),
    EXPORT(nk_thread_park_until),
    EXPORT(nk_thread_wake),
    EXPORT(nk_thread_pin),
    EXPORT(nk_thread_name),
    EXPORT(nk_thread_reent_slot),
    EXPORT(nk_preempt_resched),

    EXPORT(nk_semaphore_init),
    EXPORT(nk_semaphore_down),
    EXPORT(nk_semaphore_try_down),
    EXPORT(nk_semaphore_down_until),
    EXPORT(nk_semaphore_up),
    EXPORT(nk_mutex_init),
    EXPORT(nk_mutex_lock),
    EXPORT(nk_mutex_try_lock),
    EXPORT(nk_mutex_unlock),
    EXPORT(nk_event_init),
    EXPORT(nk_event_set),
    EXPORT(nk_event_wait),
    EXPORT(nk_event_wait_until),

    EXPORT(nk_timer_init),
    EXPORT(nk_timer_arm),
    EXPORT(nk_timer_cancel),
    EXPORT(nk_ns_to_tsc),
    EXPORT(nk_tsc_to_ns),
    EXPORT(nk_now_ns),
    EXPORT(nk_wall_clock_ns),
    EXPORT(nk_tsc_hz),

    EXPORT(kmalloc),
    EXPORT(kzalloc),
    EXPORT(kmalloc_aligned),
    EXPORT(krealloc),
    EXPORT(kfree),
    EXPORT(buddy_alloc),
    EXPORT(buddy_free),
    EXPORT(paging_map_mmio),
    EXPORT(paging_translate),

    EXPORT(nk_irq_attach),
    EXPORT(nk_irq_detach),
    EXPORT(nk_irq_set_affinity),
    EXPORT(nk_cpu_call),
    EXPORT(nk_cpu_table),
    EXPORT(nk_cpu_count),
    EXPORT(nk_module_find),
    EXPORT(nk_log),
    EXPORT(nk_panic),
};

uint64_t native_export(const char *name)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(export_table); i++) {
        if (strcmp(export_table[i].name, name) == 0) {
            return export_table[i].address;
        }
    }
    return 0;
}
