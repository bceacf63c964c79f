/* The guest's vector registers. They stay in the processor while an exit is handled: the thread
 * owns the extended state, the library is built without them, and XCR0 is the guest's. Nothing
 * here may fault; who calls has asked whether the guest may use these instructions. */
#pragma once

#include <vmm/types.h>

struct vmm_vector {
    uint64_t q[4];
};

enum vmm_vector_part {
    VMM_VECTOR_LOW,   /* 16 bytes; what lies above stays */
    VMM_VECTOR_CLEAR, /* 16 bytes, zeros above. With AVX alone, as */
    VMM_VECTOR_WHOLE, /* 32 bytes, zeros above */
};

void vmm_vector_read(unsigned reg, struct vmm_vector *out, bool whole);
void vmm_vector_write(unsigned reg, const struct vmm_vector *value, enum vmm_vector_part part);

/* MMX: either access makes the x87 stack's registers valid and its top 0, as the guest's own
 * instruction does. Not while an x87 exception waits. */
bool vmm_x87_waits(void);
uint64_t vmm_mmx_read(unsigned reg);
void vmm_mmx_write(unsigned reg, uint64_t value);

uint32_t vmm_mxcsr_read(void);
void vmm_mxcsr_write(uint32_t value); /* no bit beyond vmm_mxcsr_mask() (fpu.h) */
