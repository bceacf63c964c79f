/* The form of nested page table entries: long mode's own. Spec: AMD APM vol. 2 section 15.25. */
#include "svm/svm.h"

#define PRESENT  (UINT64_C(1) << 0)
#define WRITE    (UINT64_C(1) << 1)
#define USER     (UINT64_C(1) << 2) /* nested walks are user accesses (15.25.5) */
#define ACCESSED (UINT64_C(1) << 5) /* this and the next set at once: the processor need not */
#define DIRTY    (UINT64_C(1) << 6)
#define NO_EXEC  (UINT64_C(1) << 63)

static const struct vmm_nested_format npt_format = {
    .table = PRESENT | WRITE | USER | ACCESSED,
    .page = PRESENT | USER | ACCESSED | DIRTY,
    .write = WRITE,
    .no_exec = NO_EXEC,
    .accessed = ACCESSED,
    .dirty = DIRTY,
};

/* The number of levels is the host's own (15.25.3). */
int svm_npt_create(struct vm *vm)
{
    const struct svm *svm = vm->vmm->arch;

    return vmm_nested_create(vm, &npt_format, svm->npt_levels, svm->page_1g);
}
