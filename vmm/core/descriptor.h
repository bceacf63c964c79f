/* Segment descriptors in a guest's tables, and what the processor reads and writes there by itself:
 * with the supervisor's rights, whatever the CPL. Exit context. Spec: Intel SDM vol. 3 section
 * 3.4. */
#pragma once

#include <vmm/types.h>
#include "core/vcpu.h"

#define SELECTOR_RPL   3u
#define SELECTOR_LOCAL 4u
#define SELECTOR_OF(s) ((s)&0xfffcu) /* as error codes have it; 0: a null selector */

/* Attributes of vmm_segment_state. */
#define SEGMENT_ACCESSED   0x01u
#define SEGMENT_WRITABLE   0x02u /* of data; of code: readable */
#define SEGMENT_CONFORMING 0x04u /* of code; of data: expands down */
#define SEGMENT_CODE       0x08u
#define SEGMENT_CODE_DATA  0x10u /* else the system's */
#define SEGMENT_PRESENT    0x80u
#define SEGMENT_TYPE(a)    ((a)&0x1fu)
#define SEGMENT_DPL(a)     ((a) >> 5 & 3u)

/* Are all bytes of an operand within the segment's limit? Not for 64-bit code. */
bool vmm_segment_holds(const struct vmm_segment_state *s, uint64_t offset, unsigned size);
/* Code and data segments: may a segment with this selector become DS, ES, FS, GS; SS; CS of code at
 * `cpl` (not by a gate)? Presence is not looked at. */
bool vmm_segment_fits(enum vmm_segment which, const struct vmm_segment_state *s, unsigned cpl);

void vmm_descriptor_unpack(uint16_t selector, uint64_t d, struct vmm_segment_state *out);
/* Where the descriptor of a selector lies. False: beyond its table, or in none. */
bool vmm_descriptor_find(struct vcpu *v, uint16_t selector, uint64_t *at);
/* Change the type's bits of the descriptor at `at`. False: a fault is queued. */
bool vmm_descriptor_mark(struct vcpu *v, uint64_t at, uint8_t set, uint8_t clear) VMM_MUST_CHECK;

/* Load CS, SS or a data segment register in protected mode by a selector that is not null.
 * bad: the exception of a selector that this register cannot have; external: 0, or the bit of error
 * codes for what no instruction has caused. False: a fault is queued. */
bool vmm_segment_load(struct vcpu *v, enum vmm_segment which, uint16_t selector, unsigned cpl,
                      uint8_t bad, uint32_t external) VMM_MUST_CHECK;

/* Copy between a buffer and linear memory; nothing is written unless all can be. What is no RAM
 * reads as all ones. False: a page fault is queued. At most 4096 bytes. */
bool vmm_system_read(struct vcpu *v, uint64_t linear, void *data, unsigned len) VMM_MUST_CHECK;
bool vmm_system_write(struct vcpu *v, uint64_t linear, const void *data,
                      unsigned len) VMM_MUST_CHECK;
