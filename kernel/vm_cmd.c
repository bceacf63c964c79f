/* The shell's command "vm", on the library's control calls. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "kernel/vms.h"

struct vm_action {
    const char *name;
    int (*on_vm)(struct vm *vm);          /* with the VM that the argument names, or */
    int (*on_name)(const char *argument); /* with the argument itself (NULL: takes none) */
    bool takes_argument;
    int (*on_more)(struct vm *vm, int argc, char **argv); /* with what follows the VM's name */
};

static int report(const char *name, const char *what, int status)
{
    if (status == -VMM_EBUSY || status == -VMM_EINVAL) {
        struct vm *vm = vmm_vm_find(vms_instance(), name);
        shell_printf("vm %s: cannot %s: it is %s\n", name, what,
                     vm ? vmm_state_name(vmm_vm_state(vm)) : "gone");
    } else if (status < 0) {
        shell_printf("vm %s: cannot %s: error %d\n", name, what, -status);
    }
    return status;
}

static const char *name_of(const struct vm *vm)
{
    return vmm_vm_config(vm)->name;
}

static void print_row(struct vm *vm)
{
    const struct vm_config *c = vmm_vm_config(vm);
    bool ended = vmm_vm_state(vm) == VM_STOPPED || vmm_vm_state(vm) == VM_CRASHED;
    shell_printf("%-20s %-9s %5u %7llu MiB  %s\n", c->name, vmm_state_name(vmm_vm_state(vm)),
                 c->vcpu_count, (unsigned long long)(c->mem_bytes >> 20),
                 ended ? vmm_reason_name(vmm_vm_reason(vm)) : "");
}

static int action_list(const char *argument)
{
    (void)argument;
    shell_printf("NAME                 STATE     VCPUS      MEMORY  REASON\n");
    for (struct vm *vm = NULL; (vm = vmm_vm_next(vms_instance(), vm)) != NULL;) {
        print_row(vm);
    }
    return 0;
}

static int action_show(struct vm *vm)
{
    const struct vm_config *c = vmm_vm_config(vm);
    print_row(vm);
    if (*c->firmware_path) {
        shell_printf("  firmware %s\n", c->firmware_path);
    } else {
        shell_printf("  kernel  %s\n  initrd  %s\n  args    %s\n", c->kernel_path,
                     *c->initrd_path ? c->initrd_path : "(none)", c->boot_args);
    }
    for (unsigned i = 0; i < c->vcpu_count; i++) {
        if (c->cpu[i] >= 0) {
            shell_printf("  vcpu %u  pinned to CPU %d\n", i, c->cpu[i]);
        }
    }
    shell_printf("  power   %s\n", c->power == VM_POWER_NODE
                                       ? "the guest's power-off powers the node off"
                                       : "the guest's power-off ends the VM");
    return 0;
}

static int action_create(const char *manifest)
{
    struct vmm_error err = {.text = ""};
    struct vm *vm;
    int status = vms_create(manifest, &vm, &err);
    if (status < 0) {
        shell_printf("%s\n", err.text);
        return status;
    }
    shell_printf("vm %s: created\n", name_of(vm));
    return 0;
}

static int action_start(struct vm *vm)
{
    struct vmm_error err = {.text = ""};
    int status = vmm_vm_start(vm, &err);
    if (status < 0) {
        shell_printf("vm %s: not started: %s\n", name_of(vm), err.text);
    }
    return status;
}

static int action_stop(struct vm *vm)
{
    return report(name_of(vm), "stop", vmm_vm_stop(vm));
}

static int action_reset(struct vm *vm)
{
    return report(name_of(vm), "reset", vmm_vm_reset(vm));
}

static int action_pause(struct vm *vm)
{
    return report(name_of(vm), "pause", vmm_vm_pause(vm));
}

static int action_resume(struct vm *vm)
{
    return report(name_of(vm), "resume", vmm_vm_resume(vm));
}

static int action_kill(struct vm *vm)
{
    char name[VMM_NAME_MAX];
    memcpy(name, name_of(vm), sizeof(name));
    return report(name, "kill", vms_destroy(vm));
}

static int action_console(struct vm *vm)
{
    int status = console_bring_front(name_of(vm));
    if (status < 0) {
        shell_printf("vm %s: has no console\n", name_of(vm));
    }
    return status;
}

static int action_stats(struct vm *vm)
{
    shell_printf("memory held beyond guest RAM: %llu KiB\n",
                 (unsigned long long)(vmm_vm_memory_held(vm) >> 10));
    shell_printf("EXIT                      COUNT         CYCLES  PER EXIT\n");
    struct vm_exit_count e;
    for (unsigned i = 0; vmm_vm_exit_count(vm, i, &e); i++) {
        if (e.count) {
            shell_printf("%-20s %10llu %14llu %9llu\n", e.name, (unsigned long long)e.count,
                         (unsigned long long)e.cycles, (unsigned long long)(e.cycles / e.count));
        }
    }
    return 0;
}

static int action_dump(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_ALL);
    return 0;
}

static int action_regs(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_REGISTERS);
    return 0;
}

static int action_trace(struct vm *vm)
{
    vmm_vm_dump(vm, VM_DUMP_EXITS);
    return 0;
}

/* False: not a number that fits. */
static bool parse_number(const char *text, uint64_t limit, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 0);
    return *text != '\0' && *end == '\0' && errno == 0 && *out <= limit;
}

static int action_nmi(struct vm *vm, int argc, char **argv)
{
    uint64_t vcpu = 0;
    if (argc > 1 || (argc == 1 && !parse_number(argv[0], VMM_VCPUS_MAX - 1, &vcpu))) {
        return shell_usage("vm");
    }
    return report(name_of(vm), "inject an NMI", vmm_vm_inject_nmi(vm, (unsigned)vcpu));
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

static int action_mem(struct vm *vm, int argc, char **argv)
{
    uint64_t gpa, count = 4 * MEM_LINE;
    if (argc < 1 || argc > 2 || !parse_number(argv[0], UINT64_MAX - MEM_MOST, &gpa) ||
        (argc == 2 && !parse_number(argv[1], MEM_MOST, &count))) {
        return shell_usage("vm");
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

static const struct vm_action action_table[] = {
    {.name = "list", .on_name = action_list},
    {.name = "show", .on_vm = action_show, .takes_argument = true},
    {.name = "create", .on_name = action_create, .takes_argument = true},
    {.name = "start", .on_vm = action_start, .takes_argument = true},
    {.name = "stop", .on_vm = action_stop, .takes_argument = true},
    {.name = "reset", .on_vm = action_reset, .takes_argument = true},
    {.name = "pause", .on_vm = action_pause, .takes_argument = true},
    {.name = "resume", .on_vm = action_resume, .takes_argument = true},
    {.name = "kill", .on_vm = action_kill, .takes_argument = true},
    {.name = "console", .on_vm = action_console, .takes_argument = true},
    {.name = "stats", .on_vm = action_stats, .takes_argument = true},
    {.name = "dump", .on_vm = action_dump, .takes_argument = true},
    {.name = "regs", .on_vm = action_regs, .takes_argument = true},
    {.name = "trace", .on_vm = action_trace, .takes_argument = true},
    {.name = "mem", .takes_argument = true, .on_more = action_mem},
    {.name = "inject-nmi", .takes_argument = true, .on_more = action_nmi},
};

static const char *action_name(unsigned i)
{
    return i < NK_ARRAY_COUNT(action_table) ? action_table[i].name : NULL;
}

/* For suggestions only: the caller holds the lock. */
static const char *vm_name(unsigned i)
{
    struct vm *vm = NULL;
    while ((vm = vmm_vm_next(vms_instance(), vm)) != NULL && i--) {
    }
    return vm ? name_of(vm) : NULL;
}

static int run_action(const struct vm_action *action, const char *argument, int more_count,
                      char **more)
{
    if (action->on_name) {
        return action->on_name(argument);
    }
    struct vm *vm = vmm_vm_find(vms_instance(), argument);
    if (!vm) {
        shell_unknown("VM", argument, vm_name);
        return -ENOENT;
    }
    return action->on_more ? action->on_more(vm, more_count, more) : action->on_vm(vm);
}

int cmd_vm(int argc, char **argv)
{
    const struct vm_action *action = NULL;
    for (unsigned i = 0; argc > 1 && i < NK_ARRAY_COUNT(action_table); i++) {
        if (strcmp(action_table[i].name, argv[1]) == 0) {
            action = &action_table[i];
        }
    }
    if (argc > 1 && !action) {
        shell_unknown("action", argv[1], action_name);
        return -EINVAL;
    }
    if (!action || argc < 2 + action->takes_argument ||
        (argc > 2 + action->takes_argument && !action->on_more)) {
        return shell_usage(argv[0]);
    }
    if (!vms_instance()) {
        shell_printf("no virtual machines on this node: %s\n", vms_why_none());
        return -ENODEV;
    }
    vms_lock();
    int status = run_action(action, argv[2], argc - 3, argv + 3);
    vms_handle_events(); /* what the action ended is said before the next prompt */
    vms_unlock();
    return status;
}

const char *vm_candidate(unsigned position, unsigned i)
{
    if (position == 1) {
        return action_name(i);
    }
    if (position != 2 || !vms_instance()) {
        return NULL;
    }
    vms_lock();
    const char *name = vm_name(i);
    vms_unlock();
    return name;
}
