/* See power.h. Spec: ACPI 6.4 sections 4.8.3.2 (PM1 control), 4.8.3.6 (reset), 16.1.6 (S5). */

#include "kernel/power.h"

#include "base/platform.h"
#include "base/x86.h"
#include "kernel/acpi.h"
#include "kernel/console.h"
#include "kernel/time.h"

#define PM1_SCI_EN         (1u << 0)
#define PM1_SLP_TYPE_SHIFT 10
#define PM1_SLP_TYPE_MASK  (7u << PM1_SLP_TYPE_SHIFT)
#define PM1_SLP_EN         (1u << 13)

#define RESET_CONTROL_PORT 0xcf9 /* of the chip set */
#define RESET_CONTROL_HARD 0x06
#define I8042_COMMAND      0x64
#define I8042_PULSE_RESET  0xfe
#define DEBUG_EXIT_PORT    0xf4

#define SETTLE_US 100000 /* what a machine is given to follow an order */

/* In legacy mode the power registers belong to the firmware, which is asked for them once. */
static void enter_acpi_mode(void)
{
    if (acpi.smi_command == 0 || (x86_inw((uint16_t)acpi.pm1a_control) & PM1_SCI_EN) != 0) {
        return;
    }
    x86_outb((uint16_t)acpi.smi_command, acpi.acpi_enable);
    for (unsigned i = 0; i < 100; i++) {
        if ((x86_inw((uint16_t)acpi.pm1a_control) & PM1_SCI_EN) != 0) {
            return;
        }
        nk_udelay(SETTLE_US / 100);
    }
}

static void sleep_type(uint32_t port, uint16_t type)
{
    if (port != 0) {
        uint16_t v = (uint16_t)(x86_inw((uint16_t)port) & ~PM1_SLP_TYPE_MASK);
        x86_outw((uint16_t)port, (uint16_t)(v | type << PM1_SLP_TYPE_SHIFT | PM1_SLP_EN));
    }
}

static NK_NORETURN void halt(void)
{
    for (;;) {
        __asm__ volatile("cli; hlt");
    }
}

void nk_power_off(void)
{
    console_flush();
    x86_cli();
    if (acpi.has_s5 && acpi.pm1a_control != 0) {
        enter_acpi_mode();
        sleep_type(acpi.pm1a_control, acpi.s5_type_a);
        sleep_type(acpi.pm1b_control, acpi.s5_type_b);
        nk_udelay(SETTLE_US);
    }
    static const char text[] = "power: this machine does not power off by itself; halted\n";
    console_write_sync(text, sizeof(text) - 1);
    halt();
}

/* Orders from the tidiest to the one that cannot fail: a triple fault. */
void nk_reset(void)
{
    console_flush();
    x86_cli();
    if (acpi.reset.present && acpi.reset.space == 1) {
        x86_outb((uint16_t)acpi.reset.address, acpi.reset.value);
        nk_udelay(SETTLE_US);
    } else if (acpi.reset.mapped != NULL) {
        *acpi.reset.mapped = acpi.reset.value;
        nk_udelay(SETTLE_US);
    }
    x86_outb(RESET_CONTROL_PORT, RESET_CONTROL_HARD);
    nk_udelay(SETTLE_US);
    x86_outb(I8042_COMMAND, I8042_PULSE_RESET);
    nk_udelay(SETTLE_US);
    static const struct {
        uint16_t limit;
        uint64_t base;
    } NK_PACKED no_idt = {0, 0};
    __asm__ volatile("lidt %0; int3" : : "m"(no_idt));
    halt();
}

void nk_debug_exit(uint8_t code)
{
    console_flush();
    x86_outb(DEBUG_EXIT_PORT, code);
    nk_power_off(); /* there is no such device here */
}
