/* The fixture's VM with the SVM back end's state in place of the mock's; nothing of it is ever run.
 */
#pragma once

#include "fixture.h"
#include "svm/svm.h"

struct fixture *svm_fixture_create(void);
void svm_fixture_destroy(struct fixture *f);

/* An exit as the VMCB gives it, decoded: its code, EXITINFO1 and EXITINFO2. */
struct vmm_exit svm_fixture_exit(struct fixture *f, uint64_t code, uint64_t info1, uint64_t info2);
