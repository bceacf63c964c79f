/* The shell's actions on a running VM's memory: vm balloon, swap, add-memory, remove-memory. */
#include <errno.h>
#include <stdlib.h>

#include "kernel/shell.h"
#include "kernel/vm_cmd.h"

/* "64", "64M", "1G", "512K": MiB without a letter, whole pages. */
static bool parse_size(const char *text, uint64_t *bytes)
{
    char *end;
    errno = 0;
    uint64_t number = strtoull(text, &end, 10);
    unsigned shift = *end == 'K' || *end == 'k' ? 10 : *end == 'G' || *end == 'g' ? 30 : 20;
    bool suffix = shift != 20 || *end == 'M' || *end == 'm';
    if (end == text || *text == '-' || end[suffix] != '\0' || errno != 0 ||
        number > UINT64_MAX >> shift) {
        return false;
    }
    *bytes = number << shift & -VMM_PAGE_SIZE;
    return true;
}

static void print_memory(struct vm *vm)
{
    struct vm_memory m;
    vmm_vm_memory(vm, &m);
    shell_printf("  RAM     %llu MiB, %llu MiB of it held in host pages, %llu KiB swapped out\n",
                 (unsigned long long)(m.ram >> 20), (unsigned long long)(m.backed >> 20),
                 (unsigned long long)(m.stored >> 10));
    shell_printf("  balloon %llu MiB given by the guest, %llu MiB wanted%s\n",
                 (unsigned long long)(m.balloon_actual >> 20),
                 (unsigned long long)(m.balloon_wanted >> 20),
                 m.balloon_driver ? "" : "; it has no driver at work");
}

/* False: with words of why in the shell. */
static bool size_argument(int argc, char **argv, uint64_t *bytes)
{
    if (argc == 1 && parse_size(argv[0], bytes)) {
        return true;
    }
    shell_usage("vm");
    return false;
}

int vm_cmd_balloon(struct vm *vm, int argc, char **argv)
{
    uint64_t bytes;
    if (argc == 0) {
        print_memory(vm);
        return 0;
    }
    if (!size_argument(argc, argv, &bytes)) {
        return -EINVAL;
    }
    int status = vmm_vm_balloon(vm, bytes);
    if (status == -VMM_E2BIG) {
        shell_printf("vm %s: it has %llu MiB, all of which cannot be taken\n", vm_cmd_name(vm),
                     (unsigned long long)(vmm_vm_config(vm)->mem_bytes >> 20));
        return status;
    }
    return vm_cmd_report(vm_cmd_name(vm), "ask for memory", status);
}

int vm_cmd_swap(struct vm *vm, int argc, char **argv)
{
    uint64_t bytes, moved;
    if (argc == 0) {
        print_memory(vm);
        return 0;
    }
    if (!size_argument(argc, argv, &bytes)) {
        return -EINVAL;
    }
    int status = vmm_vm_swap_out(vm, bytes, &moved);
    shell_printf("vm %s: %llu KiB swapped out%s\n", vm_cmd_name(vm),
                 (unsigned long long)(moved >> 10),
                 status == -VMM_ENOSPC ? "; the node has no memory to keep more" : "");
    return status;
}

static const char *why(int status)
{
    return status == -VMM_EEXIST   ? "something is there"
           : status == -VMM_ENOENT ? "no region begins there"
           : status == -VMM_EINVAL ? "address and size are to be whole pages"
           : status == -VMM_ENOSPC ? "it has too many regions"
                                   : "no memory";
}

int vm_cmd_add_memory(struct vm *vm, int argc, char **argv)
{
    uint64_t address, bytes;
    if (argc != 2 || !shell_number(argv[0], UINT64_MAX, &address) || !parse_size(argv[1], &bytes)) {
        return shell_usage("vm");
    }
    int status = vmm_vm_add_memory(vm, address, bytes, NULL);
    if (status < 0) {
        shell_printf("vm %s: no memory added: %s\n", vm_cmd_name(vm), why(status));
    }
    return status;
}

int vm_cmd_remove_memory(struct vm *vm, int argc, char **argv)
{
    uint64_t address;
    if (argc != 1 || !shell_number(argv[0], UINT64_MAX, &address)) {
        return shell_usage("vm");
    }
    int status = vmm_vm_remove_memory(vm, address);
    if (status < 0) {
        shell_printf("vm %s: no memory removed: %s\n", vm_cmd_name(vm), why(status));
    }
    return status;
}
