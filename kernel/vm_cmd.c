/* The shell's command "vm", on the library's control calls. */
#include <errno.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "kernel/vm_cmd.h"
#include "kernel/vms.h"

#define VM_MANIFEST_MAX 128 /* the longest name of a boot module that is of use */

/* One of the three: on the VM that the argument names, on that VM with what follows its name, on
 * the arguments themselves. */
struct vm_action {
    const char *name;
    int (*plain)(struct vm *vm);
    int (*on_vm)(struct vm *vm, int argc, char **argv);
    int (*on_words)(int argc, char **argv);
};

const char *vm_cmd_name(const struct vm *vm)
{
    return vmm_vm_config(vm)->name;
}

int vm_cmd_report(const char *name, const char *what, int status)
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

static void print_row(struct vm *vm)
{
    const struct vm_config *c = vmm_vm_config(vm);
    bool ended = vmm_vm_state(vm) == VM_STOPPED || vmm_vm_state(vm) == VM_CRASHED;
    shell_printf("%-20s %-9s %5u %7llu MiB  %s\n", c->name, vmm_state_name(vmm_vm_state(vm)),
                 c->vcpu_count, (unsigned long long)(c->mem_bytes >> 20),
                 ended ? vmm_reason_name(vmm_vm_reason(vm)) : "");
}

static int action_list(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    shell_printf("NAME                 STATE     VCPUS      MEMORY  REASON\n");
    for (struct vm *vm = NULL; (vm = vmm_vm_next(vms_instance(), vm)) != NULL;) {
        print_row(vm);
    }
    return 0;
}

static int action_create(int argc, char **argv)
{
    struct vmm_error err = {.text = ""};
    struct vm *vm;
    if (argc != 1) {
        return shell_usage("vm");
    }
    int status = vms_create(argv[0], &vm, &err);
    if (status < 0) {
        shell_printf("%s\n", err.text);
        return status;
    }
    shell_printf("vm %s: created\n", vm_cmd_name(vm));
    return 0;
}

static int action_start(struct vm *vm)
{
    struct vmm_error err = {.text = ""};
    int status = vmm_vm_start(vm, &err);
    if (status < 0) {
        shell_printf("vm %s: not started: %s\n", vm_cmd_name(vm), err.text);
    }
    return status;
}

static int action_stop(struct vm *vm)
{
    return vm_cmd_report(vm_cmd_name(vm), "stop", vmm_vm_stop(vm));
}

static int action_reset(struct vm *vm)
{
    return vm_cmd_report(vm_cmd_name(vm), "reset", vmm_vm_reset(vm));
}

static int action_pause(struct vm *vm)
{
    return vm_cmd_report(vm_cmd_name(vm), "pause", vmm_vm_pause(vm));
}

static int action_resume(struct vm *vm)
{
    return vm_cmd_report(vm_cmd_name(vm), "resume", vmm_vm_resume(vm));
}

/* The name outlives the VM. */
static int end_of(struct vm *vm, const char *what, int (*fn)(struct vm *vm))
{
    char name[VMM_NAME_MAX];
    memcpy(name, vm_cmd_name(vm), sizeof(name));
    return vm_cmd_report(name, what, fn(vm));
}

static int action_kill(struct vm *vm)
{
    return end_of(vm, "kill", vms_kill);
}

static int action_destroy(struct vm *vm)
{
    return end_of(vm, "destroy", vms_destroy);
}

/* The VM is another one afterwards, of the same manifest. */
static int action_restart(struct vm *vm)
{
    struct vmm_error err = {.text = ""};
    char name[VMM_NAME_MAX], manifest[VM_MANIFEST_MAX];
    memcpy(name, vm_cmd_name(vm), sizeof(name));
    strncpy(manifest, vms_manifest(vm), sizeof(manifest) - 1);
    manifest[sizeof(manifest) - 1] = '\0';
    int status = vms_kill(vm);
    if (status < 0) {
        return vm_cmd_report(name, "kill", status);
    }
    status = vms_create(manifest, &vm, &err);
    if (status == 0) {
        status = vmm_vm_start(vm, &err);
    }
    if (status < 0) {
        shell_printf("%s\n", err.text);
    }
    return status;
}

static int action_console(struct vm *vm)
{
    int status = console_bring_front(vm_cmd_name(vm));
    if (status < 0) {
        shell_printf("vm %s: has no console\n", vm_cmd_name(vm));
    }
    return status;
}

static int action_break(struct vm *vm)
{
    int status = console_send_break(vm_cmd_name(vm));
    if (status < 0) {
        shell_printf("vm %s: has no console\n", vm_cmd_name(vm));
    }
    return status;
}

static int action_nmi(struct vm *vm, int argc, char **argv)
{
    uint64_t vcpu = 0;
    if (argc > 1 || (argc == 1 && !shell_number(argv[0], VMM_VCPUS_MAX - 1, &vcpu))) {
        return shell_usage("vm");
    }
    return vm_cmd_report(vm_cmd_name(vm), "inject an NMI", vmm_vm_inject_nmi(vm, (unsigned)vcpu));
}

static const struct vm_action action_table[] = {
    {.name = "list", .on_words = action_list},
    {.name = "show", .on_vm = vm_cmd_show},
    {.name = "create", .on_words = action_create},
    {.name = "start", .plain = action_start},
    {.name = "pause", .plain = action_pause},
    {.name = "resume", .plain = action_resume},
    {.name = "reset", .plain = action_reset},
    {.name = "stop", .plain = action_stop},
    {.name = "kill", .plain = action_kill},
    {.name = "destroy", .plain = action_destroy},
    {.name = "restart", .plain = action_restart},
    {.name = "console", .plain = action_console},
    {.name = "output", .on_vm = vm_cmd_output},
    {.name = "send-break", .plain = action_break},
    {.name = "regs", .on_vm = vm_cmd_regs},
    {.name = "mem", .on_vm = vm_cmd_mem},
    {.name = "trace", .on_vm = vm_cmd_trace},
    {.name = "dump", .on_vm = vm_cmd_dump},
    {.name = "stats", .on_vm = vm_cmd_stats},
    {.name = "written", .on_vm = vm_cmd_written},
    {.name = "inject-nmi", .on_vm = action_nmi},
    {.name = "balloon", .on_vm = vm_cmd_balloon},
    {.name = "swap", .on_vm = vm_cmd_swap},
    {.name = "add-memory", .on_vm = vm_cmd_add_memory},
    {.name = "remove-memory", .on_vm = vm_cmd_remove_memory},
    {.name = "checkpoint", .on_vm = vm_cmd_checkpoint},
    {.name = "restore", .on_words = vm_cmd_restore},
    {.name = "images", .on_words = vm_cmd_images},
    {.name = "forget", .on_words = vm_cmd_forget},
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
    return vm ? vm_cmd_name(vm) : NULL;
}

static int run_action(const struct vm_action *action, int argc, char **argv)
{
    if (action->on_words) {
        return action->on_words(argc, argv);
    }
    if (argc < 1 || (action->plain && argc > 1)) {
        return shell_usage("vm");
    }
    struct vm *vm = vmm_vm_find(vms_instance(), argv[0]);
    if (!vm) {
        shell_unknown("VM", argv[0], vm_name);
        return -ENOENT;
    }
    return action->plain ? action->plain(vm) : action->on_vm(vm, argc - 1, argv + 1);
}

static const struct vm_action *find_action(const char *name)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(action_table); i++) {
        if (strcmp(action_table[i].name, name) == 0) {
            return &action_table[i];
        }
    }
    return NULL;
}

int cmd_vm(int argc, char **argv)
{
    if (argc < 2) {
        return shell_usage(argv[0]);
    }
    const struct vm_action *action = find_action(argv[1]);
    if (!action) {
        shell_unknown("action", argv[1], action_name);
        return -EINVAL;
    }
    if (!vms_instance()) {
        shell_printf("no virtual machines on this node: %s\n", vms_why_none());
        return -ENODEV;
    }
    vms_lock();
    int status = run_action(action, argc - 2, argv + 2);
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
