/* The PIC pair, as the interrupt fabric sees it. */
#pragma once

#include <vmm/types.h>

struct vm;

void vpic_set_line(struct vm *vm, unsigned irq, bool level);
/* The INTA cycle: the vector (a spurious one, line 7's, when nothing is left). */
uint8_t vpic_acknowledge(struct vm *vm);
/* The vector that vpic_acknowledge() would give now. */
uint8_t vpic_peek(struct vm *vm);
bool vpic_masked(struct vm *vm, unsigned irq);  /* no lock */
bool vpic_pending(struct vm *vm, unsigned irq); /* requested, not acknowledged; no lock */
