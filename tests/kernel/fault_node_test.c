/* Allocations that fail in turn in what stands on the kernel's core: shell commands, native
 * applications, drivers, the library. */
#include <errno.h>
#include <string.h>
#include <vmm/vm.h>

#include "drivers/block.h"
#include "drivers/char.h"
#include "drivers/devices.h"
#include "drivers/net.h"
#include "drivers/pci/pci.h"
#include "kernel/irq.h"
#include "kernel/module.h"
#include "kernel/native.h"
#include "kernel/shell.h"
#include "kernel/vmm_host.h"
#include "mm/fault.h"
#include "tests/kernel/edu.h"
#include "tests/kernel/fault.h"
#include "tests/kernel/ktest.h"

#define PROBES_MAX 100

/* --- the shell -------------------------------------------------------------------------------- */

static const char *command_line;

static int run_command(void)
{
    char line[80];
    strcpy(line, command_line);
    return shell_execute(line);
}

/* Each command either does its work or says that it cannot. */
KTEST(fault_shell_commands)
{
    static const char *const command_table[] = {
        "help | match memory",
        "help mem",
        "ps",
        "mem",
        "mem tags",
        "mem caches",
        "mem check",
        "cpu",
        "cpu features",
        "timers",
        "irq",
        "pci",
        "pci 00:00.0",
        "block",
        "net",
        "modules",
        "uptime",
        "date",
        "version",
        "log error",
        "loglevel",
        "console",
        "echo one \"two three\"",
    };
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    for (unsigned i = 0; i < NK_ARRAY_COUNT(command_table); i++) {
        command_line = command_table[i];
        fault_each(command_line, run_command, FAULT_TOLERATED);
    }
    command_line = "timers check";
    if (run_command() == 0) { /* there is an HPET with an interrupt */
        fault_each(command_line, run_command, FAULT_REPORTED);
    }
    command_line = "block read vd0 0";
    if (nk_block_get(0) != NULL) {
        fault_each(command_line, run_command, FAULT_REPORTED);
    }
}

/* --- native applications ---------------------------------------------------------------------- */

static int run_hello(void)
{
    char *argv[] = {"hello", "fault", NULL};
    int status = 0;
    int err = native_run(2, argv, &status);
    EXPECT_LE(err, 0);
    EXPECT(status == 0 || status == 1);                /* it ended by itself */
    return err != 0 ? err : status == 0 ? 0 : -EAGAIN; /* it said that it got no thread */
}

/* Loading, its heap, its threads and their stacks, and the C library within it. */
KTEST(fault_native)
{
    struct nk_module module;
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    KTEST_SKIP_UNLESS(nk_module_find("native/hello", &module), "needs -initrd native/hello");
    fault_each_of_any_thread("hello", run_hello, FAULT_TOLERATED);
}

/* --- drivers ---------------------------------------------------------------------------------- */

/* A probe that lacks memory leaves nothing behind, and the next one finds the device as it was. */
static void probe_with_faults(struct pci_function *f)
{
    const struct fault_holdings before = fault_holdings();
    uint32_t command = pci_read(f, PCI_COMMAND, 2); /* firmware may have left it a bus master */
    for (unsigned number = 0; number < PROBES_MAX; number++) {
        mm_fault_inject(number);
        int err = devices_probe(f);
        bool happened = mm_fault_end();
        if (err == -ENOENT) {
            return;
        }
        if (err == 0) {
            ktest_note("%04x:%04x: %u allocations, by %s", f->vendor_id, f->device_id, number,
                       f->driver);
            EXPECT_GT(number, 0);
            return;
        }
        EXPECT(happened);
        EXPECT(f->driver == NULL);
        EXPECT_EQ(f->irq_kind, PCI_IRQ_NONE);
        EXPECT_EQ(pci_read(f, PCI_COMMAND, 2) & ~command & PCI_COMMAND_MASTER, 0);
        if (!happened || !fault_expect_same("probe", number, &before)) {
            return;
        }
    }
    EXPECT(false); /* it never succeeds */
}

KTEST(fault_driver_probe)
{
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    KTEST_SKIP_UNLESS(nk_block_get(0) == NULL && pci_count() > 8, "needs devices and devices=none");
    for (unsigned i = 0; i < pci_count(); i++) {
        probe_with_faults(pci_get(i));
    }
    EXPECT(nk_block_get(0) != NULL);
    EXPECT(nk_net_get(0) != NULL);
}

static struct edu edu;
static unsigned line_kind;

static int open_line(void)
{
    int err = pci_irq_open(edu.f, 1, line_kind);
    if (err == 0) {
        err = nk_irq_attach(edu.f->irq[0], "edu", edu_interrupt, &edu);
        if (err == 0) {
            nk_irq_detach(edu.f->irq[0], edu_interrupt, &edu);
        }
        pci_irq_close(edu.f);
    }
    return err;
}

KTEST(fault_device_lines)
{
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    KTEST_SKIP_UNLESS(edu_open(&edu), "needs -device edu");
    line_kind = PCI_IRQ_MSI;
    fault_each("MSI", open_line, FAULT_REPORTED);
    line_kind = PCI_IRQ_INTX;
    fault_each("INTx", open_line, FAULT_REPORTED);
}

/* --- the library ------------------------------------------------------------------------------ */

static void no_event(void *host, void *vm_cookie, int state, int reason)
{
    (void)host, (void)vm_cookie, (void)state, (void)reason;
}

static int make_library(void)
{
    struct vmm *vmm;
    struct vmm_error why;
    int err = vmm_create(vmm_host_ops(no_event), NULL, &vmm, &why);
    if (err == 0) {
        err = vmm_destroy(vmm);
    }
    return err;
}

KTEST(fault_library)
{
    struct vmm *vmm;
    struct vmm_error why;
    KTEST_SKIP_UNLESS(fault_possible(), "not a debug build");
    bool usable = vmm_create(vmm_host_ops(no_event), NULL, &vmm, &why) == 0;
    KTEST_SKIP_UNLESS(usable, "no hardware virtualisation");
    EXPECT_EQ(vmm_destroy(vmm), 0);
    fault_each("library", make_library, FAULT_TOLERATED);
}
