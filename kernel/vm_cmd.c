/* The shell's command "vm", on the library's control calls. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/console.h"
#include "kernel/format.h"
#include "kernel/module.h"
#include "kernel/shell.h"
#include "kernel/shell_cmds.h"
#include "kernel/vm_cmd.h"
#include "kernel/vms.h"

/* One of the three: on the VM that the argument names, on that VM with what follows its name, on
 * the arguments themselves. */
struct vm_action {
    const char *name;
    int (*plain)(struct vm *vm);
    int (*on_vm)(struct vm *vm, int argc, char **argv);
    int (*on_words)(int argc, char **argv);
    int least, most; /* words that it takes, those behind a VM's name */
};

const char *vm_cmd_name(const struct vm *vm)
{
    return vmm_vm_config(vm)->name;
}

static const char *words_for(int error)
{
    switch (error) {
    case -VMM_ENOMEM:
        return "the node has no memory left";
    case -VMM_ENOSPC:
        return "the node has no room for more";
    case -VMM_ENODEV:
        return "it has no such device";
    case -VMM_ENOTSUP:
        return "this node cannot";
    case -VMM_EIO:
        return "its memory cannot be read";
    default:
        return NULL;
    }
}

int vm_cmd_report(const char *name, const char *what, int status)
{
    const char *words = words_for(status);
    if (status == -VMM_EBUSY || status == -VMM_EINVAL) {
        struct vm *vm = vmm_vm_find(vms_instance(), name);
        shell_printf("vm %s: cannot %s: it is %s\n", name, what,
                     vm ? vmm_state_name(vmm_vm_state(vm)) : "gone");
    } else if (status < 0 && words) {
        shell_printf("vm %s: cannot %s: %s\n", name, what, words);
    } else if (status < 0) {
        shell_printf("vm %s: cannot %s: error %d\n", name, what, -status);
    }
    return status;
}

int vm_cmd_wrong(const char *action, const char *word, const char *what)
{
    shell_printf("vm %s: \"%s\" is not %s\n", action, word, what);
    return -EINVAL;
}

bool vm_cmd_vcpu(struct vm *vm, const char *word, unsigned *vcpu)
{
    uint64_t number;
    unsigned last = vmm_vm_config(vm)->vcpu_count - 1;
    if (!shell_number(word, last, &number)) {
        shell_printf("vm %s: no vCPU %s, it has 0 to %u\n", vm_cmd_name(vm), word, last);
        return false;
    }
    *vcpu = (unsigned)number;
    return true;
}

const char *vm_cmd_reason(const struct vm *vm, char *text, size_t size)
{
    enum vm_reason reason = vmm_vm_reason(vm);
    if (reason == VM_REASON_EXIT) {
        nk_snprintf(text, size, "%s with code %u", vmm_reason_name(reason), vmm_vm_exit_code(vm));
        return text;
    }
    return reason == VM_REASON_NONE ? "" : vmm_reason_name(reason);
}

static void print_row(struct vm *vm)
{
    const struct vm_config *c = vmm_vm_config(vm);
    bool ended = vmm_vm_state(vm) == VM_STOPPED || vmm_vm_state(vm) == VM_CRASHED;
    char reason[64];
    shell_printf("%-20s %-9s %5u %7llu MiB  %s\n", c->name, vmm_state_name(vmm_vm_state(vm)),
                 c->vcpu_count, (unsigned long long)(c->mem_bytes >> 20),
                 ended ? vm_cmd_reason(vm, reason, sizeof(reason)) : "");
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

static const char *module_name(unsigned i)
{
    struct nk_module m;
    return nk_module_get(i, &m) ? m.name : NULL;
}

static int create(const char *manifest, struct vm **out)
{
    struct vmm_error err = {.text = ""};
    int status = vms_create(manifest, out, &err);
    if (status < 0) {
        const char *near = status == -VMM_ENOENT ? shell_suggest(manifest, module_name) : NULL;
        shell_printf(near ? "%s; did you mean \"%s\"?\n" : "%s\n", err.text, near);
    }
    return status;
}

static int action_create(int argc, char **argv)
{
    (void)argc;
    struct vm *vm;
    int status = create(argv[0], &vm);
    if (status == 0) {
        shell_printf("vm %s: created\n", vm_cmd_name(vm));
    }
    return status;
}

static int action_start(struct vm *vm)
{
    struct vmm_error err = {.text = ""};
    int status = vmm_vm_start(vm, &err);
    if (status < 0) {
        shell_printf("vm %s\n", err.text); /* it begins with the name */
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
    char *manifest = strdup(vms_manifest(vm));
    if (!manifest) {
        return vm_cmd_report(vm_cmd_name(vm), "restart", -VMM_ENOMEM);
    }
    int status = action_kill(vm);
    if (status == 0) {
        status = create(manifest, &vm);
    }
    free(manifest);
    return status == 0 ? action_start(vm) : status;
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
    unsigned vcpu = 0;
    if (argc == 1 && !vm_cmd_vcpu(vm, argv[0], &vcpu)) {
        return -EINVAL;
    }
    return vm_cmd_report(vm_cmd_name(vm), "inject an NMI", vmm_vm_inject_nmi(vm, vcpu));
}

static const struct vm_action action_table[] = {
    {.name = "list", .on_words = action_list},
    {.name = "show", .plain = vm_cmd_show},
    {.name = "create", .on_words = action_create, .least = 1, .most = 1},
    {.name = "start", .plain = action_start},
    {.name = "pause", .plain = action_pause},
    {.name = "resume", .plain = action_resume},
    {.name = "reset", .plain = action_reset},
    {.name = "stop", .plain = action_stop},
    {.name = "kill", .plain = action_kill},
    {.name = "destroy", .plain = action_destroy},
    {.name = "restart", .plain = action_restart},
    {.name = "console", .plain = action_console},
    {.name = "output", .on_vm = vm_cmd_output, .most = 1},
    {.name = "send-break", .plain = action_break},
    {.name = "regs", .plain = vm_cmd_regs},
    {.name = "mem", .on_vm = vm_cmd_mem, .least = 1, .most = 2},
    {.name = "trace", .plain = vm_cmd_trace},
    {.name = "dump", .plain = vm_cmd_dump},
    {.name = "stats", .on_vm = vm_cmd_stats, .most = 1},
    {.name = "written", .on_vm = vm_cmd_written, .most = 1},
    {.name = "inject-nmi", .on_vm = action_nmi, .most = 1},
    {.name = "balloon", .on_vm = vm_cmd_balloon, .most = 1},
    {.name = "swap", .on_vm = vm_cmd_swap, .most = 1},
    {.name = "add-memory", .on_vm = vm_cmd_add_memory, .least = 2, .most = 2},
    {.name = "remove-memory", .on_vm = vm_cmd_remove_memory, .least = 1, .most = 1},
    {.name = "checkpoint", .on_vm = vm_cmd_checkpoint, .most = 1},
    {.name = "restore", .on_words = vm_cmd_restore, .least = 1, .most = 2},
    {.name = "images", .on_words = vm_cmd_images},
    {.name = "forget", .on_words = vm_cmd_forget, .least = 1, .most = 1},
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
    int words = action->on_words ? argc : argc - 1;
    if (words < action->least || words > action->most) {
        return shell_usage_of("vm", action->name);
    }
    if (action->on_words) {
        return action->on_words(argc, argv);
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
