/* The instruction emulator: Zydis decodes, emulate*.c executes, on guest state through the backend.
 * Exit context; nothing sleeps. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

/* Emulate the instruction at CS:RIP because it touched device memory (or ROM) at e->fault.gpa.
 * Continues, injects the guest's fault, or crashes the VM with a readable reason. */
enum vmm_action vmm_emulate_mmio(struct vcpu *v, struct vmm_exit *e);

/* IN/OUT/INS/OUTS with REP, from the exit record; string forms walk guest memory. A long REP gives
 * the run loop a turn every few hundred iterations with rip left on the instruction. */
enum vmm_action vmm_emulate_pio(struct vcpu *v, struct vmm_exit *e);

/* Length of the instruction at CS:RIP; 0: not fetched, fault queued. */
unsigned vmm_decode_length(struct vcpu *v);
/* The same when the exit tells which instruction it was: `opcode_length` bytes behind any prefixes.
 */
unsigned vmm_known_length(struct vcpu *v, unsigned opcode_length);
/* Of the HLT at CS:RIP; 0: another instruction, or none that can be read. Queues no fault. */
unsigned vmm_halt_length(struct vcpu *v);

/* Fill e->reg by decoding when the hardware gives no operand: MOV to and from CR and DR; for CLTS
 * and LMSW the value that CR0 is to get. Errors: -VMM_EFAULT a fault is queued, -VMM_EINVAL another
 * instruction. */
int vmm_decode_reg_access(struct vcpu *v, struct vmm_exit *e) VMM_MUST_CHECK;

/* What is at CS:RIP, for a dump: "mov rm=[rax+0x10] reg=rcx: 89 48 10" (core/describe.c). Register
 * names are those of full width. */
void vmm_describe_instruction(struct vcpu *v, char *out, size_t size);
/* Up to `most` bytes of code at CS:RIP, no more than a page; the page behind may not be there.
 * Returns how many. */
unsigned vmm_read_code(struct vcpu *v, uint8_t *out, unsigned most);

int vmm_decode_create(struct vcpu *v) VMM_MUST_CHECK; /* the decode cache */
void vmm_decode_destroy(struct vcpu *v);
/* Forget everything: the host pages behind guest memory have changed. */
void vmm_decode_flush(struct vcpu *v);

/* --- guest-virtual memory (core/gwalk.c) ----------------------------------------------------- */

enum vmm_access { VMM_ACCESS_READ, VMM_ACCESS_WRITE, VMM_ACCESS_FETCH };

struct vmm_walk_fault {
    gva_t address;
    uint32_t error; /* page-fault error code */
};

/* Copy between guest linear memory and a buffer, RAM only (writes to ROM vanish). At most 4096
 * bytes: one page boundary may be crossed, and nothing is copied unless both pages can be. Errors:
 * -VMM_EFAULT page fault (*fault), -VMM_ENOENT some byte is not RAM. */
int vmm_linear_read(struct vcpu *v, gva_t gva, void *out, unsigned len, enum vmm_access access,
                    struct vmm_walk_fault *fault) VMM_MUST_CHECK;
int vmm_linear_write(struct vcpu *v, gva_t gva, const void *data, unsigned len,
                     struct vmm_walk_fault *fault) VMM_MUST_CHECK;
