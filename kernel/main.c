/* From the entry code to a running node: every init step, in order. */
#include "kernel/kernel.h"

#include <string.h>

#include "base/errno.h"
#include "base/platform.h"
#include "base/x86.h"
#include "drivers/devices.h"
#include "drivers/pci/pci.h"
#include "kernel/acpi.h"
#include "kernel/console.h"
#include "kernel/cpu.h"
#include "kernel/gdb.h"
#include "kernel/idle.h"
#include "kernel/irq.h"
#include "kernel/lapic.h"
#include "kernel/log.h"
#include "kernel/log_keep.h"
#include "kernel/memory.h"
#include "kernel/native.h"
#include "kernel/newlib.h"
#include "kernel/power.h"
#include "kernel/report.h"
#include "kernel/smp.h"
#include "kernel/time.h"
#include "kernel/trap.h"
#include "kernel/version.h"
#include "kernel/watchdog.h"
#include "mm/buddy.h"
#include "mm/paging.h"
#include "mm/slab.h"
#include "sched/sched.h"
#include "sched/thread.h"
#include "sched/work.h"

struct bootinfo nk_bootinfo;

extern char boot_stack_top[]; /* boot/entry.asm */

static struct {
    uint32_t magic, record;
} loader;

bool nk_option(const char *key, char *out, size_t out_size)
{
    return bootinfo_option(&nk_bootinfo, key, out, out_size);
}

bool nk_option_is(const char *key, const char *word)
{
    char text[16];
    if (!nk_option(key, text, sizeof(text))) {
        return false;
    }
    bool is = strcmp(text, word) == 0;
    if (!is) {
        nk_warn("%s=%s: not %s", key, text, word);
    }
    return is;
}

NK_NORETURN void nk_panic_finish(void)
{
    char text[16];
    const char *action = nk_option("panic", text, sizeof(text)) ? text : nk_payload_panic;
    if (strcmp(action, "reset") == 0) {
        nk_reset();
    }
    if (strcmp(action, "exit") == 0) {
        nk_debug_exit(NK_PANIC_EXIT_CODE);
    }
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

static void start_log(void)
{
    console_init_early();
    nk_info("Orthocone %s", nk_version);
}

static void parse_boot_record(void)
{
    if (bootinfo_parse(&nk_bootinfo, loader.magic, loader.record) < 0) {
        nk_panic("entered with magic 0x%x: by no known loader", loader.magic);
    }
    char text[16];
    enum nk_log_level level;
    if (nk_option("loglevel", text, sizeof(text))) {
        if (nk_log_level_parse(text, &level) < 0) {
            nk_warn("loglevel=%s: not one of error, warn, info, debug", text);
        } else {
            nk_log_set_console_level(level);
        }
    }
    if (nk_option("panic", text, sizeof(text)) && strcmp(text, "halt") != 0 &&
        strcmp(text, "reset") != 0 && strcmp(text, "exit") != 0) {
        nk_warn("panic=%s: not one of halt, reset, exit", text);
    }
}

static void init_memory(void)
{
    memory_init(&nk_bootinfo);
}

static void init_acpi(void)
{
    acpi_init(&nk_bootinfo);
}

static void init_lapic(void)
{
    lapic_init();
    lapic_init_cpu();
}

/* isolate=1,3: CPUs that only threads come to that name them. */
static void isolate_cpus(void)
{
    char text[BOOTINFO_TEXT_MAX];
    uint64_t cpus;
    if (nk_option("isolate", text, sizeof(text)) &&
        (!nk_parse_cpus(text, &cpus) || sched_isolate(cpus) < 0)) {
        nk_warn("isolate=%s: not a list of CPUs from 1 on, such as 1,3", text);
    }
}

struct nk_work_service *nk_services;

/* services=2,3: where work runs that nobody may wait for. */
static void start_services(void)
{
    char text[BOOTINFO_TEXT_MAX];
    struct nk_work_service_attr attr = {.name = "service", .threads = 2};
    if (nk_option("services", text, sizeof(text)) && !nk_parse_cpus(text, &attr.cpus)) {
        nk_warn("services=%s: not a list of CPUs, such as 2,3", text);
    }
    int err = nk_work_service_create(&nk_services, &attr);
    if (err == -EINVAL) {
        nk_warn("services=%s: there are no such CPUs", text);
        attr.cpus = 0;
        err = nk_work_service_create(&nk_services, &attr);
    }
    if (err != 0) {
        nk_panic("no memory for the service threads");
    }
}

static void init_sched(void)
{
    isolate_cpus();
    sched_init();
    sched_init_cpu(boot_stack_top);
}

struct init_step {
    const char *name;
    void (*init)(void);
    const char *provides;
};

/* Each step may use what the steps above it provide, and nothing below. */
static const struct init_step init_table[] = {
    {"trap", trap_init, "exceptions become a readable panic"},
    {"log", start_log, "nk_log(), polled console"},
    {"bootinfo", parse_boot_record, "memory map, modules, command line"},
    {"memory", init_memory, "boot allocator"},
    {"features", cpu_detect, "what this CPU can do"},
    {"paging", paging_init, "the kernel's page tables: direct map, W^X image, device mappings"},
    {"cpu", cpu_init, "this CPU's features switched on"},
    {"acpi", init_acpi, "ACPI tables"},
    {"nodes", memory_init_nodes, "which memory is near which CPU"},
    {"gdb", gdb_init, "breakpoints"},
    {"buddy", buddy_init, "page allocator, one per node"},
    {"slab", slab_init, "kmalloc, object caches"},
    {"lapic", init_lapic, "local APIC, IPIs"},
    {"irq", irq_init, "device interrupts, still off at this CPU"},
    {"time", time_init, "calibrated TSC, wall clock"},
    {"kept log", log_keep_start, "the log outlives a warm reset"},
    {"timer", lapic_timer_init_cpu, "one-shot timer interrupts"},
    {"idle", idle_init, "how a CPU waits for work"},
    {"sched", init_sched, "threads; this context is the thread \"main\""},
    {"interrupts", x86_sti, "interrupts on"},
    {"newlib", newlib_init, "C library: locks, per-thread state"},
    {"smp", smp_start_all, "all other CPUs, cross-CPU calls"},
    {"idle check", idle_check, "a store wakes an idle CPU, or an interrupt does"},
    {"watchdog", watchdog_init, "CPUs stuck with interrupts off are reported"},
    {"console", console_init, "buffered console, input, streams"},
    {"gdb line", gdb_listen, "gdb can interrupt"},
    {"native", native_init, "applications can be run"},
    {"services", start_services, "threads for work that may block"},
    {"pci", pci_init, "PCI functions"},
    {"devices", devices_init, "block, network and character devices"},
    {"report", report_node, "the node's description in the log"},
    {"node", nk_node_start, "shell and virtual machines"},
};

NK_NORETURN void kernel_main(uint32_t magic, uint32_t record)
{
    nk_log_start();
    loader.magic = magic;
    loader.record = record;
    for (unsigned i = 0; i < NK_ARRAY_COUNT(init_table); i++) {
        const struct init_step *step = &init_table[i];
        step->init();
        nk_debug("init: %s: %s", step->name, step->provides);
    }
    for (;;) {
        nk_thread_park();
    }
}
