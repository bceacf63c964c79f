/* The PC that guests see: which devices, where. One list, dev/table.c, makes it. */
#pragma once

#include <vmm/types.h>

struct vm;

#define PLATFORM_LOW_RAM_END    UINT64_C(0xc0000000) /* RAM below 4 GiB ends here; PCI hole above */
#define PLATFORM_IOAPIC_BASE    UINT64_C(0xfec00000)
#define PLATFORM_HPET_BASE      UINT64_C(0xfed00000)
#define PLATFORM_HPET_ID        0x8086a201 /* lower half of its capabilities */
#define PLATFORM_HPET_MIN_TICKS 5000       /* of a periodic timer: 50 us */
#define PLATFORM_LAPIC_BASE     UINT64_C(0xfee00000)
#define PLATFORM_PM_BASE        0x600  /* PM1 event, control, PM timer (PIIX4 places) */
#define PLATFORM_PM_ALIAS       0xb000 /* where SeaBIOS moves that block: it answers at both */
#define PLATFORM_PM_EVENT       (PLATFORM_PM_BASE + 0)
#define PLATFORM_PM_CONTROL     (PLATFORM_PM_BASE + 4)
#define PLATFORM_PM_TIMER       (PLATFORM_PM_BASE + 8)
#define PLATFORM_SMI_COMMAND    0xb2
#define PLATFORM_ACPI_ENABLE    0xf1 /* commands written there */
#define PLATFORM_ACPI_DISABLE   0xf0
#define PLATFORM_RESET_PORT     0xcf9
#define PLATFORM_ACPI_BASE      UINT64_C(0xe0000) /* tables, where systems look for the RSDP */
#define PLATFORM_SCI_IRQ        9
#define PLATFORM_COM1           0x3f8
#define PLATFORM_COM1_IRQ       4
#define PLATFORM_S5_TYPE        5 /* SLP_TYP that DSDT's \_S5 names */

struct vm_memory;
void vballoon_report(struct vm *vm, struct vm_memory *out); /* what the balloon knows */

/* All devices of the VM; on failure nothing is left. Context: control. */
int vmm_platform_create(struct vm *vm) __attribute__((warn_unused_result));
