/* Actions of the shell's command "vm": those that look (vm_cmd_inspect.c), those for memory
 * (vm_cmd_memory.c), those for images (vm_cmd_image.c). The VMs' lock is held. argv has what
 * follows the action, or the VM's name: as many words as the action's row in vm_cmd.c says. */
#pragma once

#include <vmm/vm.h>
#include "base/types.h"

/* "vm linux: cannot pause: it is stopped"; returns status. */
int vm_cmd_report(const char *name, const char *what, int status);
const char *vm_cmd_name(const struct vm *vm);
/* "vm mem: "12z" is not an address"; returns -EINVAL. */
int vm_cmd_wrong(const char *action, const char *word, const char *what);
/* One of its vCPUs. False, with words in the shell: it has none of that number. */
bool vm_cmd_vcpu(struct vm *vm, const char *word, unsigned *vcpu);
/* Why it ended, "" if it did not; in `text` if that takes more than a constant. */
const char *vm_cmd_reason(const struct vm *vm, char *text, size_t size);

int vm_cmd_show(struct vm *vm);
int vm_cmd_output(struct vm *vm, int argc, char **argv);
int vm_cmd_stats(struct vm *vm, int argc, char **argv);
int vm_cmd_written(struct vm *vm, int argc, char **argv);
int vm_cmd_dump(struct vm *vm);
int vm_cmd_regs(struct vm *vm);
int vm_cmd_trace(struct vm *vm);
int vm_cmd_mem(struct vm *vm, int argc, char **argv);

int vm_cmd_balloon(struct vm *vm, int argc, char **argv);
int vm_cmd_swap(struct vm *vm, int argc, char **argv);
int vm_cmd_add_memory(struct vm *vm, int argc, char **argv);    /* <address> <size> */
int vm_cmd_remove_memory(struct vm *vm, int argc, char **argv); /* <address> */

int vm_cmd_checkpoint(struct vm *vm, int argc, char **argv);
int vm_cmd_restore(int argc, char **argv); /* <name> [where] */
int vm_cmd_images(int argc, char **argv);
int vm_cmd_forget(int argc, char **argv);  /* <image> */
const char *vm_cmd_image_name(unsigned i); /* NULL past the last */
