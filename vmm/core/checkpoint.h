/* The form of a checkpoint, shared by its writer (core/checkpoint.c) and reader (core/restore.c).
 *
 *   stream header, MACHINE, PAGES .., DEVICES, VCPU for each, END
 *
 * Each record is a header with a checksum over itself and its payload. Everything is little-endian
 * and of fixed width; nothing in it is an address of the host. Pages that are not there are zero.
 * Any change of a structure below, or of what a device saves, is a new version. */
#pragma once

#include <vmm/types.h>
#include <vmm/vdev.h>
#include "core/memory.h"
#include "core/vcpu.h"

#define CHECKPOINT_MAGIC   UINT64_C(0x00544b50434d564f) /* "OVMCPKT" */
#define CHECKPOINT_VERSION 1

/* Payloads are whole words, filled up with zeros. */
#define CHECKPOINT_ROUND(bytes) (((bytes) + 7) & ~(size_t)7)

#define CHECKPOINT_PAGES_MAX 64          /* in one record */
#define CHECKPOINT_STATE_MAX VMM_MIB(1)  /* bytes of a record that is no PAGES */
#define CHECKPOINT_ROM_MAX   VMM_MIB(16) /* of a ROM region that the reader makes */
/* Two calibrations of one clock differ by less, two kinds of processor by more. */
#define CHECKPOINT_KHZ_TOLERANCE 100 /* a hundredth */

enum checkpoint_kind {
    CHECKPOINT_MACHINE = 1,
    CHECKPOINT_PAGES,
    CHECKPOINT_DEVICES,
    CHECKPOINT_VCPU,
    CHECKPOINT_END,
};

struct checkpoint_header {
    uint64_t magic;
    uint32_t version, reserved;
};

struct checkpoint_record {
    uint32_t kind, index; /* enum checkpoint_kind; of a VCPU: which */
    uint64_t length;      /* of the payload */
    uint64_t sum;
};

struct saved_region {
    uint64_t base, size, kind; /* enum vmm_region_kind */
};

struct saved_machine {
    uint32_t vcpu_count, region_count;
    uint64_t mem_bytes;
    uint64_t cpuid; /* vmm_cpuid_fingerprint() */
    uint64_t cycles_khz, clock_cycles;
    struct saved_region region[VMM_REGIONS_MAX];
};

struct saved_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector, attributes;
};

/* Followed by the extended state as XSAVE (or FXSAVE) lays it out, and the paravirtual state. */
struct saved_vcpu {
    uint64_t gpr[16], rip, rflags;
    uint64_t sysreg[VMM_SYSREG_COUNT];
    struct saved_segment segment[VMM_SEG_COUNT];
    uint64_t dr[4];
    uint64_t tsc; /* the guest's, when it was saved */
    uint64_t tsc_adjust, misc_enable, mtrr_def_type, mtrr_fixed[11], mtrr_var[16];
    uint64_t xcr0;
    uint32_t tsc_aux, fpu_bytes;
    uint32_t requests; /* those of enum vmm_request that are the guest's affair */
    uint32_t event_error;
    uint8_t event_valid, event_has_error, event_type, event_vector;
    uint8_t halted, wait_sipi, sipi_vector, kicked;
    uint8_t nmi_pending, reserved[7];
};

/* What stays of vcpu->requests: the others are the host's, or are asked for anew. */
#define CHECKPOINT_REQUESTS (VMM_REQ_INIT | VMM_REQ_SIPI | VMM_REQ_NMI)

/* Whole words change the sum for certain; only the last of several parts may end in half a word. */
uint64_t vmm_checksum(uint64_t sum, const void *bytes, size_t count);
/* Of a record's header; its payload follows. */
uint64_t vmm_checksum_record(const struct checkpoint_record *r);

/* A stream in memory: `at` of `size` bytes are done; what goes beyond is -VMM_EIO. Without a
 * buffer it counts. */
struct vmm_buffer {
    struct vdev_stream stream;
    uint8_t *bytes;
    size_t at, size;
};
int vmm_buffer_write(struct vdev_stream *s, void *bytes, size_t count);
int vmm_buffer_read(struct vdev_stream *s, void *bytes, size_t count);

/* All vCPUs stand at the gate, the guest's clock stands, v->fpu holds their extended state.
 * Context: control. Errors: the stream's, -VMM_ENOMEM; err has the line. */
int vmm_checkpoint_write(struct vm *vm, struct vdev_stream *out,
                         struct vmm_error *err) VMM_MUST_CHECK;
/* No thread runs; the clock stands afterwards, and v->fpu holds what the vCPUs' threads shall load.
 * On failure the guest cannot go on, but can be started. Errors: -VMM_EINVAL it is no checkpoint, a
 * damaged one, or of another machine. */
int vmm_checkpoint_read(struct vm *vm, struct vdev_stream *in,
                        struct vmm_error *err) VMM_MUST_CHECK;
