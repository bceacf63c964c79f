/* A bare VM for unit tests: memory, vCPUs of the mock backend and the devices a test asks for, put
 * together by hand, so that a test of one part needs no other to work. No thread runs it. */
#pragma once

/* cmocka.h needs these four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "core/vm.h"
#include "posix_host.h"

struct fixture {
    struct posix_host *host;
    struct vmm *vmm;
    struct vm *vm;
    struct vcpu *vcpu; /* the first */
};

/* RAM is [0, mem_bytes); 0: none. Stops the test when something fails. */
struct fixture *fixture_create(uint64_t mem_bytes, unsigned vcpu_count);
/* Also checks that everything the VM took from the host was given back. */
void fixture_destroy(struct fixture *f);

/* What the hardware's walk of the nested tables finds for gpa (mock_nested_format). */
struct fixture_page {
    bool present;
    uint64_t hpa, size, flags; /* of gpa itself; of the page; its entry */
};
struct fixture_page fixture_translate(struct vm *vm, uint64_t gpa);

/* Do one access through the VM's buses, as a vCPU would. */
uint64_t fixture_in(struct fixture *f, uint16_t port, unsigned size);
void fixture_out(struct fixture *f, uint16_t port, unsigned size, uint64_t value);
uint64_t fixture_mmio_read(struct fixture *f, uint64_t gpa, unsigned size);
void fixture_mmio_write(struct fixture *f, uint64_t gpa, unsigned size, uint64_t value);

/* Advance the clock and run the callbacks of guest timers that fell due. */
void fixture_advance_ns(struct fixture *f, uint64_t ns);
