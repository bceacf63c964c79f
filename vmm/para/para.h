/* Paravirtual interface: kvmclock's MSRs and hypercalls. Exit context unless said otherwise. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

/* KVM's "new" MSR range: WALL_CLOCK_NEW, SYSTEM_TIME_NEW and what follows. */
#define VMM_PARA_MSR_FIRST 0x4b564d00
#define VMM_PARA_MSR_COUNT 0x100

/* Control context; state hangs on v->para. */
int vmm_para_create(struct vcpu *v) VMM_MUST_CHECK;
void vmm_para_destroy(struct vcpu *v);
void vmm_para_reset(struct vcpu *v); /* power-on, INIT: nothing registered */

/* For checkpoints. Load: the vCPU is reset, its TSC and all memory are back; clock records are
 * written again. Errors: the stream's, -VMM_EINVAL no state that a guest can have made. */
struct vdev_stream;
int vmm_para_save(struct vcpu *v, struct vdev_stream *out) VMM_MUST_CHECK;
int vmm_para_load(struct vcpu *v, struct vdev_stream *in) VMM_MUST_CHECK;

/* False: #GP. */
bool vmm_para_msr_read(struct vcpu *v, uint32_t msr, uint64_t *value);
bool vmm_para_msr_write(struct vcpu *v, uint32_t msr, const uint64_t *value);

/* The guest moved its TSC (v->tsc_offset has changed): its clock records are written again. */
void vmm_para_tsc_changed(struct vcpu *v);

/* Steal time (steal.c). The MSR: false: #GP. */
bool vmm_steal_set(struct vcpu *v, uint64_t value);
void vmm_steal_reckon(struct vcpu *v); /* bring the guest's record up to date */
void vmm_steal_sleep(struct vcpu *v);  /* the vCPU's thread is about to sleep, for HLT */
void vmm_steal_awake(struct vcpu *v);
int vmm_steal_load(struct vcpu *v) VMM_MUST_CHECK;

#define VMM_KVM_CALLS_END 12
/* A call of KVM's number space (1 to 11). False: not one of them. `wide`: 64-bit code. */
bool vmm_kvm_call(struct vcpu *v, uint64_t number, bool wide, int64_t *result);
