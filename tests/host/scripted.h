/* A VM made by the library's own calls on the mock back end, whose guest is a script. */
#pragma once

#include "fixture.h"
#include "mock_backend.h"

#define SCRIPTED_KERNEL "vmlinuz"

struct scripted {
    struct posix_host *host;
    struct vmm *vmm;
    struct vm *vm;
    struct vcpu *vcpu; /* the first */
    struct vm_config config;
    struct vmm_error err;

    /* What the guest does at each entry, in order; NULL ends it, and the VM is powered off. */
    void (*const *step)(struct vcpu *v, struct vmm_exit *e);
};

/* Host and instance, a kernel file that the loader takes, a configuration; no VM yet. */
struct scripted *scripted_host(unsigned vcpu_count);
/* And the VM, created. */
struct scripted *scripted_create(unsigned vcpu_count);
/* Destroys what there is and checks that all was given back. */
void scripted_destroy(struct scripted *m);

/* Run the first vCPU's loop in the calling thread until the VM ends. */
void scripted_enter(struct scripted *m, mock_script_fn script, void *arg);
/* The same, through the steps. */
void scripted_run(struct scripted *m, void (*const *step)(struct vcpu *v, struct vmm_exit *e));

/* Feed the handler of a kind one exit of `length` bytes; the vCPU is at rip 0x1000. */
enum vmm_action scripted_exit(struct scripted *m, struct vmm_exit *e);
/* The exit of RDMSR. False: #GP, which is taken back. */
bool scripted_rdmsr(struct scripted *m, uint32_t msr, uint64_t *value);
