#include "svm_fixture.h"

#include <stdlib.h>
#include "mock_backend.h"

#define CPUS 2

static void *mock_vm_arch, *mock_vcpu_arch;
static const struct vmm_backend *mock_table;
static struct vmm_backend mixed_table; /* the mock's, but for what reads this back end's state */

struct fixture *svm_fixture_create(void)
{
    struct fixture *f = fixture_create(0, 1);
    struct svm *svm = calloc(1, sizeof(*svm) + CPUS * sizeof(svm->cpu[0]));

    mock_vm_arch = f->vm->arch;
    mock_vcpu_arch = f->vcpu->arch;
    svm->cpu_count = CPUS;
    svm->asid_count = 4;
    svm->npt_levels = 4;
    svm->page_1g = true;
    for (unsigned i = 0; i < CPUS; i++) {
        svm->cpu[i].next_asid = svm->asid_count;
    }
    f->vmm->arch = svm;
    vmm_nested_destroy(f->vm); /* the mock's */
    assert_int_equal(svm_npt_create(f->vm), 0);
    assert_int_equal(svm_vcpu_create(f->vcpu), 0);
    svm_vcpu_reset(f->vcpu);
    mock_table = f->vcpu->backend;
    mixed_table = *mock_table;
    mixed_table.get_segment = svm_get_segment;
    mixed_table.get_sysreg = svm_get_sysreg;
    mixed_table.set_sysreg = svm_set_sysreg;
    mixed_table.get_address_mode = svm_get_address_mode;
    mixed_table.cpl = svm_cpl;
    f->vcpu->backend = &mixed_table;
    return f;
}

void svm_fixture_destroy(struct fixture *f)
{
    svm_vcpu_destroy(f->vcpu);
    free(f->vmm->arch);
    f->vm->arch = mock_vm_arch;
    f->vcpu->arch = mock_vcpu_arch;
    f->vcpu->backend = mock_table;
    fixture_destroy(f);
}

struct vmm_exit svm_fixture_exit(struct fixture *f, uint64_t code, uint64_t info1, uint64_t info2)
{
    struct vmm_exit e = {.code = (uint32_t)code, .info1 = info1, .info2 = info2, .rip = 0x1000};

    if (e.code >= VMCB_EXIT_TABLE_END) {
        svm_exit_beyond_table(f->vcpu, &e);
    } else {
        e.kind = (enum vmm_exit_kind)svm_exit_table[code].kind;
        e.insn_length = svm_exit_table[code].length;
        if (svm_exit_table[code].detail) {
            svm_exit_detail(f->vcpu, &e);
        }
    }
    return e;
}
