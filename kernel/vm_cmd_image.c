/* Checkpoints by the shell: vm checkpoint, restore, images, forget. */
#include <errno.h>
#include <string.h>

#include "kernel/format.h"
#include "kernel/shell.h"
#include "kernel/time.h"
#include "kernel/vm_cmd.h"
#include "kernel/vm_image.h"
#include "kernel/vms.h"
#include "sched/timer.h"

#define NS_PER_S 1000000000

int vm_cmd_checkpoint(struct vm *vm, int argc, char **argv)
{
    struct vmm_error err = {.text = ""};
    struct vm_image_info info = {.bytes = 0};
    char name[VMM_NAME_MAX];
    nk_snprintf(name, sizeof(name), "%s", vm_cmd_name(vm));
    const char *where = argc > 0 ? argv[0] : name;
    uint64_t start = nk_now_ns();
    int status = vm_image_save(vm, vms_manifest(vm), where, &err);
    if (status == 0) {
        status = vm_image_find(where, &info, &err);
    }
    if (status < 0) {
        shell_printf("%s\n", err.text);
        return status;
    }
    shell_printf("vm %s: checkpoint in %s, %llu KiB, in %llu ms\n", name, where,
                 (unsigned long long)(info.bytes >> 10),
                 (unsigned long long)((nk_now_ns() - start) / 1000000));
    return 0;
}

/* The VM that an image is for: the one of that name, or a new one from its manifest. */
static int target(const char *name, const struct vm_image_info *info, struct vm **out, bool *made,
                  struct vmm_error *err)
{
    *made = false;
    *out = vmm_vm_find(vms_instance(), name);
    if (*out) {
        return 0;
    }
    int status = vms_create(info->manifest, out, err);
    if (status < 0) {
        return status;
    }
    *made = true;
    if (strcmp(vm_cmd_name(*out), name) != 0) {
        nk_snprintf(err->text, sizeof(err->text), "no VM %s, and the image is of VM %s (%s)", name,
                    vm_cmd_name(*out), info->manifest);
        return -EINVAL;
    }
    return 0;
}

int vm_cmd_restore(int argc, char **argv)
{
    struct vmm_error err = {.text = ""};
    struct vm_image_info info;
    struct vm *vm = NULL;
    bool made = false;
    const char *where = argc > 1 ? argv[1] : argv[0];
    int status = vm_image_find(where, &info, &err);
    if (status == 0) {
        status = target(argv[0], &info, &vm, &made, &err);
    }
    if (status == 0) {
        status = vm_image_restore(vm, where, &err);
    }
    if (status < 0) {
        shell_printf("%s\n", err.text);
        if (made && vms_destroy(vm) < 0) {
            shell_printf("vm %s: created, and not destroyed again\n", argv[0]);
        }
        return status;
    }
    shell_printf("vm %s: restored from %s\n", argv[0], where);
    return vm_cmd_report(argv[0], "resume", vmm_vm_resume(vm));
}

int vm_cmd_images(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    const char *name;
    struct vm_image_info info;
    uint64_t now = nk_wall_clock_ns();
    shell_printf("IMAGE                VM                         SIZE  AGE\n");
    for (unsigned i = 0; vm_image_get(i, &name, &info); i++) {
        shell_printf("%-20s %-20s %6llu KiB  %llu s\n", name, info.vm,
                     (unsigned long long)(info.bytes >> 10),
                     (unsigned long long)(now > info.taken_ns ? (now - info.taken_ns) / NS_PER_S
                                                              : 0)); /* the clock was set back */
    }
    return 0;
}

const char *vm_cmd_image_name(unsigned i)
{
    const char *name;
    struct vm_image_info info;
    return vm_image_get(i, &name, &info) ? name : NULL;
}

int vm_cmd_forget(int argc, char **argv)
{
    (void)argc;
    int status = vm_image_drop(argv[0]);
    if (status < 0) {
        shell_unknown("image", argv[0], vm_cmd_image_name);
    }
    return status;
}
