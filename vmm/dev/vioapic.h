/* The IOAPIC, as the interrupt fabric sees it. */
#pragma once

#include <vmm/types.h>

#define VIOAPIC_PINS 24

struct vm;

void vioapic_set_pin(struct vm *vm, unsigned pin, bool level);
bool vioapic_masked(struct vm *vm, unsigned pin);    /* no lock */
uint8_t vioapic_vector(struct vm *vm, unsigned pin); /* no lock */
