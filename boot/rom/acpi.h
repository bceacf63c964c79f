/* Inside boot/rom: ACPI tables for the kernel. */
#pragma once

#include "base/types.h"

#define ACPI_RSDP_1        20 /* bytes of a root pointer, by its revision */
#define ACPI_RSDP_2        36
#define ACPI_RSDP_REVISION 15 /* where it is */

/* Returns the root pointer, with all that hangs on it in memory that the map calls ACPI's. */
const void *acpi_start(uint32_t *length);

/* Tables that describe what the loader has found by itself; NULL without memory for them. */
const void *acpi_build(void);

/* The byte that makes the sum of all of them zero. */
uint8_t acpi_checksum(const void *data, size_t size);
