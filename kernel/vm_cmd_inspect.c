/* What the shell shows of a VM: vm show, stats, dump, regs, trace, mem. */
#include <errno.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/shell.h"
#include "kernel/vm_cmd.h"
#include "kernel/vms.h"

/* Nothing where it is as it is by default. */
static const char *page_size(const struct vm_config *c)
{
    switch (c->huge_pages) {
    case VM_HUGE_PAGES_2M:
        return ", in pages of 2 MiB";
    case VM_HUGE_PAGES_NONE:
        return ", in pages of 4 KiB";
    default:
        return "";
    }
}

static void show_kernel(const struct vm_config *c)
{
    if (*c->firmware_path) {
        shell_printf("  firmware %s\n", c->firmware_path);
        return;
    }
    shell_printf("  kernel  %s\n  initrd  %s\n  args    %s\n", c->kernel_path,
                 *c->initrd_path ? c->initrd_path : "(none)", c->boot_args);
    for (unsigned i = 0; i < c->module_count; i++) {
        shell_printf("  module  %s\n", c->module[i]);
    }
}

static void print_function(const struct vm_pci_function *f)
{
    static const char *const name_table[] = {
        [VPCI_PIN] = "INTx", [VPCI_MSI] = "MSI", [VPCI_MSIX] = "MSI-X"};
    shell_printf("  pci %02x.0 %s %04x:%04x, interrupts by %s", f->slot, f->name, f->vendor,
                 f->device, name_table[f->signal]);
    if (f->signal != VPCI_PIN) {
        shell_printf(": %u vectors, masked %#x, pending %#x, %llu messages", f->vectors, f->masked,
                     f->pending, (unsigned long long)f->sent);
    }
    shell_printf("\n");
}

static void show_hidden(const struct vm_config *c)
{
    const char *name;
    if (c->hidden_features == 0) {
        return;
    }
    shell_printf("  hidden ");
    for (unsigned i = 0; (name = vmm_feature_name(i)) != NULL; i++) {
        if (c->hidden_features >> i & 1) {
            shell_printf(" %s", name);
        }
    }
    shell_printf("\n");
}

int vm_cmd_show(struct vm *vm)
{
    const struct vm_config *c = vmm_vm_config(vm);
    char text[64];
    const char *reason = vm_cmd_reason(vm, text, sizeof(text));
    shell_printf("%s: %s%s%s\n  from    %s\n", c->name, vmm_state_name(vmm_vm_state(vm)),
                 *reason ? ", " : "", reason, vms_manifest(vm));
    shell_printf("  memory  %llu MiB%s%s\n", (unsigned long long)(c->mem_bytes >> 20),
                 c->lazy_memory ? ", taken when it is touched" : "", page_size(c));
    show_kernel(c);
    for (unsigned i = 0; i < c->vcpu_count; i++) {
        if (c->cpu[i] >= 0) {
            shell_printf("  vcpu %u  pinned to CPU %d\n", i, c->cpu[i]);
        } else {
            shell_printf("  vcpu %u  on any CPU\n", i);
        }
    }
    show_hidden(c);
    unsigned para = vmm_vm_para(vm);
    if (para != 0) {
        shell_printf("  guest uses%s%s%s\n", para & VM_PARA_CLOCK ? " kvmclock," : "",
                     para & VM_PARA_STEAL_TIME ? " steal time," : "",
                     para & VM_PARA_EOI ? " PV EOI" : "");
    }
    struct vm_pci_function f;
    for (unsigned i = 0; vmm_vm_pci_function(vm, i, &f); i++) {
        print_function(&f);
    }
    shell_printf("  created in %llu cycles\n", (unsigned long long)vmm_vm_create_cycles(vm));
    shell_printf("  power   %s\n", c->power == VM_POWER_NODE
                                       ? "the guest's power-off powers the node off"
                                       : "the guest's power-off ends the VM");
    return 0;
}

#define OUTPUT_KIB 8

/* The end of what the guest wrote to its console, shown before or not. */
int vm_cmd_output(struct vm *vm, int argc, char **argv)
{
    uint64_t kib = OUTPUT_KIB;
    struct nk_console_history h;
    char text[512];
    if (argc == 1 && !shell_number(argv[0], NK_CONSOLE_RING_MOST >> 10, &kib)) {
        char what[32];
        nk_snprintf(what, sizeof(what), "a number of KiB up to %u",
                    (unsigned)(NK_CONSOLE_RING_MOST >> 10));
        return vm_cmd_wrong("output", argv[0], what);
    }
    int status = console_history_begin(vm_cmd_name(vm), kib << 10, &h);
    if (status < 0) {
        shell_printf("vm %s: has no console\n", vm_cmd_name(vm));
        return status;
    }
    for (size_t count; (count = console_history(vm_cmd_name(vm), &h, text, sizeof(text))) != 0;) {
        shell_write(text, count);
    }
    shell_write("\n", 1);
    return 0;
}

static void print_exits(struct vm *vm, int vcpu)
{
    struct vm_exit_count e;
    shell_printf("EXIT                      COUNT         CYCLES  PER EXIT\n");
    for (unsigned i = 0; vmm_vm_exit_count(vm, vcpu, i, &e); i++) {
        if (e.count) {
            shell_printf("%-20s %10llu %14llu %9llu\n", e.name, (unsigned long long)e.count,
                         (unsigned long long)e.cycles, (unsigned long long)(e.cycles / e.count));
        }
    }
}

/* All vCPUs together; with "all" each for itself, with a number that one. */
int vm_cmd_stats(struct vm *vm, int argc, char **argv)
{
    unsigned count = vmm_vm_config(vm)->vcpu_count, vcpu;
    bool each = argc == 1 && strcmp(argv[0], "all") == 0;
    if (argc == 1 && !each) {
        if (!vm_cmd_vcpu(vm, argv[0], &vcpu)) {
            return -EINVAL;
        }
        print_exits(vm, (int)vcpu);
        return 0;
    }
    shell_printf("memory held beyond guest RAM: %llu KiB\n",
                 (unsigned long long)(vmm_vm_memory_held(vm) >> 10));
    for (unsigned i = 0; each && i < count; i++) {
        shell_printf("vcpu %u\n", i);
        print_exits(vm, (int)i);
    }
    if (!each) {
        print_exits(vm, -1);
    }
    return 0;
}

/* From the first call on, until "off", writes are logged. */
int vm_cmd_written(struct vm *vm, int argc, char **argv)
{
    uint64_t pages;
    bool known;
    if (argc == 1 && strcmp(argv[0], "off") != 0) {
        return vm_cmd_wrong("written", argv[0], "\"off\"");
    }
    if (argc == 1) {
        vmm_vm_forget_written(vm);
        return 0;
    }
    int err = vmm_vm_count_written(vm, &pages, &known);
    if (err != 0) {
        return vm_cmd_report(vm_cmd_name(vm), "count its writes", err);
    }
    if (known) {
        shell_printf("%llu pages written since last asked\n", (unsigned long long)pages);
    } else {
        shell_printf("writes are counted from now on\n");
    }
    return 0;
}

int vm_cmd_dump(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_ALL);
    return 0;
}

int vm_cmd_regs(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_REGISTERS | VM_DUMP_BACKTRACE);
    return 0;
}

int vm_cmd_trace(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_EXITS);
    return 0;
}

#define MEM_LINE 16
#define MEM_MOST 4096

static void print_memory(uint64_t gpa, const uint8_t *bytes, unsigned count)
{
    shell_printf("%016llx ", (unsigned long long)gpa);
    for (unsigned i = 0; i < count; i++) {
        shell_printf(" %02x", bytes[i]);
    }
    shell_printf("%*s|", (int)(3 * (MEM_LINE - count)) + 2, "");
    for (unsigned i = 0; i < count; i++) {
        shell_printf("%c", bytes[i] >= ' ' && bytes[i] <= '~' ? bytes[i] : '.');
    }
    shell_printf("|\n");
}

int vm_cmd_mem(struct vm *vm, int argc, char **argv)
{
    uint64_t gpa, count = 4 * MEM_LINE;
    if (!shell_number(argv[0], UINT64_MAX - MEM_MOST, &gpa)) {
        return vm_cmd_wrong("mem", argv[0], "an address such as 0x100000");
    }
    if (argc == 2 && !shell_number(argv[1], MEM_MOST, &count)) {
        return vm_cmd_wrong("mem", argv[1], "a number of bytes up to 4096");
    }
    while (count > 0) {
        uint8_t line[MEM_LINE];
        unsigned part = count < MEM_LINE ? (unsigned)count : MEM_LINE;
        if (vmm_vm_read_memory(vm, gpa, line, part) != 0) {
            shell_printf("%016llx: no memory\n", (unsigned long long)gpa);
            return -EFAULT;
        }
        print_memory(gpa, line, part);
        gpa += part;
        count -= part;
    }
    return 0;
}
