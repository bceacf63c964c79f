#include "kernel/idle.h"

#include <string.h>

#include "base/platform.h"
#include "base/x86.h"
#include "kernel/cpu.h"
#include "kernel/kernel.h"
#include "sched/sched.h"

#define CPUID_MONITOR 5 /* the sizes of what is watched: EAX the smallest, EBX the largest */

bool nk_platform_watches;

/* An emulator may have the instructions and no monitor: it says so by a size of 0. */
static bool has_monitor(void)
{
    return nk_cpu_features.max_leaf >= CPUID_MONITOR && (x86_cpuid(CPUID_MONITOR, 0).ebx & 0xffff);
}

void idle_init(void)
{
    char text[8] = "";
    nk_platform_watches = nk_cpu_features.monitor && has_monitor();
    if (nk_option("idle", text, sizeof(text))) {
        const bool mwait = strcmp(text, "mwait") == 0;
        if (!mwait && strcmp(text, "hlt") != 0) {
            nk_warn("idle=%s: neither mwait nor hlt", text);
        } else if (mwait && !nk_cpu_features.monitor) {
            nk_warn("idle=mwait: this CPU has no MWAIT");
        } else {
            nk_platform_watches = mwait;
        }
    }
    nk_debug("idle: %s", nk_platform_watches ? "mwait" : "hlt");
}

static void kick_others(void)
{
    for (unsigned cpu = 0; cpu < nk_cpu_count; cpu++) {
        if (cpu != this_cpu->id) {
            nk_platform_kick_cpu(cpu);
        }
    }
}

/* Some CPUs, and Bochs where linear and physical addresses differ, do not notice every store. */
void idle_check(void)
{
    if (nk_platform_watches && nk_cpu_count > 1 && !sched_watch_works(1)) {
        nk_platform_watches = false;
        kick_others();
        nk_info("idle: CPU 1 does not notice a store that it watches for; hlt");
    }
}

/* STI holds interrupts off until the instruction behind it has begun. */
void nk_platform_idle(void)
{
    __asm__ volatile("sti; hlt" : : : "memory");
}

/* A write between MONITOR and MWAIT makes MWAIT fall through. Hint 0: C1, from which it is back at
 * once and in which the local timer runs on; no extension is needed. */
void nk_platform_idle_watch(const uint32_t *word)
{
    __asm__ volatile("monitor" : : "a"(word), "c"(0), "d"(0));
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != 0) {
        x86_sti();
        return;
    }
    __asm__ volatile("sti; mwait" : : "a"(0), "c"(0) : "memory");
}
