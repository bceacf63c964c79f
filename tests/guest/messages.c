/* Interrupts that a PCI function sends as messages (MSI-X): to one CPU and to several, by every
 * destination mode, masked and pending, and the pin that is off meanwhile. The function is a virtio
 * device: the memory balloon in a VM, a random number generator on the bare emulator. Each buffer
 * that it returns makes it interrupt; a queue that is broken makes it interrupt for its
 * configuration. */
#include "tests/guest/lib/guest.h"

#define CPUS      2
#define WAIT_US   2000000
#define SETTLE_US 3000 /* for what should not come */

/* Configuration space. */
#define COMMAND        0x04
#define STATUS         0x06
#define BAR0           0x10
#define POINTER        0x34
#define IRQ_LINE       0x3c
#define COMMAND_MEMORY 2
#define COMMAND_MASTER 4
#define STATUS_INTX    8
#define CAP_VENDOR     0x09
#define CAP_MSIX       0x11
#define MSIX_ENABLE    0x8000
#define MSIX_MASK      0x4000
#define PLACE          0xd0000000u /* for ranges that nobody has placed */
#define PIRQ_GSI       16

/* VIRTIO 1.2 section 4.1.4.3. */
#define DRIVER_SELECT 0x08
#define DRIVER        0x0c
#define CONFIG_VECTOR 0x10
#define DEVICE_STATUS 0x14
#define QUEUE         0x16
#define QUEUE_SIZE    0x18
#define QUEUE_VECTOR  0x1a
#define QUEUE_ENABLE  0x1c
#define NOTIFY_OFFSET 0x1e
#define QUEUE_PARTS   0x20 /* three addresses */
#define NO_VECTOR     0xffff
#define TYPE_RANDOM   0x1044
#define DESC_WRITE    2
#define ENTRIES       8

#define VECTOR     0x61 /* of the queue's message */
#define VECTOR_CFG 0x71
#define VECTOR_PIN 0x81

#define TO(cpu)      (0xfee00000u | (uint32_t)(cpu) << 12)
#define LOGICAL      (1u << 2)
#define HINT         (1u << 3)
#define LOWEST       (1u << 8)
#define NMI          (4u << 8)
#define MESSAGE      1 /* entries of the table: the queue's, the configuration's */
#define MESSAGE_CFG  0
#define ENTRY_MASKED 1

static volatile uint32_t messages[CPUS], configs, pins, nmis, ap_ready;

static struct {
    uint64_t gpa;
    uint32_t length;
    uint16_t flags, next;
} desc[ENTRIES] NK_ALIGNED(4096);
static volatile struct {
    uint16_t flags, index, ring[ENTRIES];
} driver_ring NK_ALIGNED(4096);
static volatile struct {
    uint16_t flags, index;
    struct {
        uint32_t id, length;
    } ring[ENTRIES];
} device_ring NK_ALIGNED(4096);
static uint32_t buffer = UINT32_MAX; /* a page number that is none */

static unsigned slot, msix_at;
static volatile uint8_t *common, *notify, *isr;
static volatile uint32_t *table, *pending;

/* --- the function -------------------------------------------------------------------------------
 */

static uint16_t select_register(unsigned reg)
{
    x86_outl(0xcf8, 0x80000000u | slot << 11 | (reg & 0xfc));
    return (uint16_t)(0xcfc + (reg & 3));
}

static uint32_t config(unsigned reg)
{
    return x86_inl(select_register(reg));
}

static uint8_t config8(unsigned reg)
{
    return x86_inb(select_register(reg));
}

static void config_write16(unsigned reg, uint16_t value)
{
    x86_outw(select_register(reg), value);
}

static void config_write32(unsigned reg, uint32_t value)
{
    x86_outl(select_register(reg), value);
}

/* A range is where firmware has put it, or where nothing is. */
static uint8_t *range(unsigned bar)
{
    unsigned reg = BAR0 + 4 * bar;
    if ((config(reg) & ~15u) == 0) {
        config_write32(reg, PLACE + (bar << 20));
    }
    return (uint8_t *)(uint64_t)(config(reg) & ~15u);
}

static void take_vendor_capability(unsigned at)
{
    uint8_t *where = range(config8(at + 4)) + config(at + 8);
    switch (config8(at + 3)) {
    case 1:
        common = where;
        break;
    case 2:
        notify = where;
        break;
    case 3:
        isr = where;
        break;
    default:
        break;
    }
}

/* The first function with MSI-X. */
static bool find_function(void)
{
    for (slot = 0; slot < 32 && !msix_at; slot += !msix_at) {
        if ((config(0) & 0xffff) != 0x1af4) {
            continue;
        }
        for (unsigned at = config8(POINTER); at != 0; at = config8(at + 1)) {
            if (config8(at) == CAP_MSIX) {
                msix_at = at;
            }
        }
    }
    if (!msix_at) {
        return false;
    }
    for (unsigned at = config8(POINTER); at != 0; at = config8(at + 1)) {
        if (config8(at) == CAP_VENDOR && config8(at + 3) < 4) {
            take_vendor_capability(at);
        }
    }
    uint32_t place = config(msix_at + 4);
    table = (uint32_t *)(range(place & 7) + (place & ~7u));
    place = config(msix_at + 8);
    pending = (uint32_t *)(range(place & 7) + (place & ~7u));
    config_write16(COMMAND, COMMAND_MEMORY | COMMAND_MASTER);
    return true;
}

static uint16_t common16(unsigned at)
{
    return *(volatile uint16_t *)(common + at);
}

static void common_write16(unsigned at, uint16_t value)
{
    *(volatile uint16_t *)(common + at) = value;
}

static void common_write32(unsigned at, uint32_t value)
{
    *(volatile uint32_t *)(common + at) = value;
}

static void start_device(void)
{
    const void *part[] = {desc, (void *)&driver_ring, (void *)&device_ring};
    common[DEVICE_STATUS] = 0;
    driver_ring.index = device_ring.index = 0;
    common[DEVICE_STATUS] = 3;
    common_write32(DRIVER_SELECT, 1);
    common_write32(DRIVER, 1); /* VIRTIO_F_VERSION_1 */
    common[DEVICE_STATUS] = 11;
    common_write16(CONFIG_VECTOR, MESSAGE_CFG);
    common_write16(QUEUE, 0);
    common_write16(QUEUE_SIZE, ENTRIES);
    common_write16(QUEUE_VECTOR, MESSAGE);
    for (unsigned i = 0; i < 3; i++) {
        common_write32(QUEUE_PARTS + 8 * i, (uint32_t)(uint64_t)part[i]);
        common_write32(QUEUE_PARTS + 8 * i + 4, 0);
    }
    common_write16(QUEUE_ENABLE, 1);
    common[DEVICE_STATUS] = 15;
}

static void kick(void)
{
    *(volatile uint16_t *)notify = 0; /* the first queue's place is 0 on both machines */
}

static void pass_us(uint64_t us)
{
    volatile uint32_t never = 0;
    guest_wait(&never, us);
}

/* A buffer goes to the device and comes back, which makes it interrupt. */
static void use_buffer(void)
{
    bool writes = config(0) >> 16 == TYPE_RANDOM;
    desc[0].gpa = (uint64_t)&buffer;
    desc[0].length = sizeof(buffer);
    desc[0].flags = writes ? DESC_WRITE : 0;
    driver_ring.ring[driver_ring.index % ENTRIES] = 0;
    __asm__ volatile("" : : : "memory");
    uint16_t next = driver_ring.index + 1;
    driver_ring.index = next;
    kick();
    for (unsigned i = 0; i < WAIT_US / 1000 && device_ring.index != next; i++) {
        pass_us(1000);
    }
}

static void set_control(uint16_t control)
{
    config_write16(msix_at + 2, control);
}

static void set_entry(unsigned n, uint32_t address, uint32_t data)
{
    table[4 * n + 3] = ENTRY_MASKED;
    table[4 * n] = address;
    table[4 * n + 1] = 0;
    table[4 * n + 2] = data;
    table[4 * n + 3] = 0;
}

/* --- interrupts ---------------------------------------------------------------------------------
 */

static void on_message(struct guest_frame *frame)
{
    (void)frame;
    messages[guest_lapic_read(LAPIC_ID) >> 24]++;
    guest_eoi();
}

static void on_config(struct guest_frame *frame)
{
    (void)frame;
    configs++;
    guest_eoi();
}

static void on_pin(struct guest_frame *frame)
{
    (void)frame;
    pins++;
    (void)*isr; /* withdraws it */
    guest_eoi();
}

static void on_nmi(struct guest_frame *frame)
{
    (void)frame;
    nmis++;
}

static void take_logical_id(void)
{
    guest_lapic_write(LAPIC_DFR, UINT32_MAX);
    guest_lapic_write(LAPIC_LDR, 1u << (24 + (guest_lapic_read(LAPIC_ID) >> 24)));
}

/* The other CPU's code, for ever. */
void guest_ap_start(uint32_t id)
{
    (void)id;
    guest_trap_load();
    guest_lapic_init();
    take_logical_id();
    ap_ready = 1;
    for (;;) {
        __asm__ volatile("sti; hlt");
    }
}

static void start_other(void)
{
    guest_ap_start_others();
    guest_wait(&ap_ready, WAIT_US);
}

/* How often each CPU got the message, as a number: CPU 1's in the tens. */
static unsigned counts(void)
{
    return messages[0] + 10 * messages[1];
}

/* Until as many have come as should, then a while for more. */
static unsigned await(unsigned total)
{
    for (unsigned i = 0; i < WAIT_US / 1000 && messages[0] + messages[1] < total; i++) {
        pass_us(1000);
    }
    pass_us(SETTLE_US);
    unsigned got = counts();
    messages[0] = messages[1] = 0;
    return got;
}

static unsigned send(uint32_t address, uint32_t data, unsigned total)
{
    set_entry(MESSAGE, address, data);
    use_buffer();
    return await(total);
}

/* --- checks -------------------------------------------------------------------------------------
 */

static void check_vectors(void)
{
    common_write16(CONFIG_VECTOR, 500);
    guest_check_equal(common16(CONFIG_VECTOR), NO_VECTOR, "msi: a vector that is none is refused");
    common_write16(CONFIG_VECTOR, MESSAGE_CFG);
    guest_check_equal(common16(CONFIG_VECTOR), MESSAGE_CFG, "msi: configuration's vector");
    guest_check_equal(common16(QUEUE_VECTOR), MESSAGE, "msi: queue's vector");
}

static void check_destinations(void)
{
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: to this CPU");
    guest_check_equal(send(TO(1), VECTOR, 1), 10, "msi: to the other CPU");
    guest_check_equal(send(TO(0xff), VECTOR, 2), 11, "msi: to all by physical broadcast");
    guest_check_equal(send(TO(2) | LOGICAL, VECTOR, 1), 10, "msi: logical, to one");
    guest_check_equal(send(TO(3) | LOGICAL, VECTOR, 2), 11, "msi: logical, to both");
    unsigned got = send(TO(3) | LOGICAL, VECTOR | LOWEST, 1);
    guest_check(got == 1 || got == 10, "msi: lowest priority, to one of both");
    if (guest_in_vm()) { /* QEMU's emulator knows neither */
        got = send(TO(3) | LOGICAL | HINT, VECTOR, 1);
        guest_check(got == 1 || got == 10, "msi: redirection hint, to one of both");
        guest_check_equal(send(0x1000, VECTOR, 0), 0, "msi: an address that is none");
    }
    set_entry(MESSAGE, TO(0), NMI);
    use_buffer();
    for (unsigned i = 0; i < WAIT_US / 1000 && nmis == 0; i++) {
        guest_delay_us(1000);
    }
    guest_check_equal(nmis, 1, "msi: as an NMI");
}

static void check_masks(void)
{
    set_entry(MESSAGE, TO(0), VECTOR);
    table[4 * MESSAGE + 3] = ENTRY_MASKED;
    use_buffer();
    guest_check_equal(await(0), 0, "msi: masked vector is held back");
    guest_check_equal(*pending, 1u << MESSAGE, "msi: its pending bit");
    table[4 * MESSAGE] = TO(1);
    table[4 * MESSAGE + 3] = 0;
    guest_check_equal(await(1), 10, "msi: unmasked, it goes where the entry says then");
    guest_check_equal(*pending, 0, "msi: nothing is pending then");

    set_control(MSIX_ENABLE | MSIX_MASK);
    use_buffer();
    use_buffer();
    guest_check_equal(await(0), 0, "msi: masked function is held back");
    guest_check_equal(*pending, 1u << MESSAGE, "msi: its pending bit is one");
    set_control(MSIX_ENABLE);
    guest_check_equal(await(1), 10, "msi: unmasked function, one message");
}

static void check_no_vector(void)
{
    common_write16(QUEUE_VECTOR, NO_VECTOR);
    guest_check_equal(common16(QUEUE_VECTOR), NO_VECTOR, "msi: queue without a vector");
    guest_check_equal(send(TO(0), VECTOR, 0), 0, "msi: it sends none");
    guest_check_equal(*pending, 0, "msi: and has none pending");
    common_write16(QUEUE_VECTOR, MESSAGE);
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: with a vector again");
}

/* Firmware knows the pin's line on the bare emulator. */
static unsigned pin_line(void)
{
    unsigned line = config8(IRQ_LINE);
    return line != 0 ? line : PIRQ_GSI + slot % 4;
}

static void check_pin(void)
{
    guest_ioapic_route(pin_line(), VECTOR_PIN, IOAPIC_LEVEL);
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: with the pin's line open");
    guest_check_equal(pins, 0, "msi: the pin is off");
    guest_check_equal(config8(STATUS) & STATUS_INTX, 0, "msi: no pin in the status register");
    set_control(0);
    use_buffer();
    guest_check(guest_wait(&pins, WAIT_US), "msi: switched off, the pin interrupts");
    guest_check_equal(await(0), 0, "msi: and no message goes");
    guest_ioapic_route(pin_line(), VECTOR_PIN, IOAPIC_MASKED);
    set_control(MSIX_ENABLE);
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: switched on again");
}

/* What no driver does; the VM's function takes it for what it says, byte by byte. */
static void check_odd_writes(void)
{
    volatile uint8_t *bytes = (volatile uint8_t *)table;
    for (unsigned i = 0; i < 2048; i++) {
        *(volatile uint64_t *)(bytes + 7 * i % 4080) = UINT64_C(0x0123456789abcdef) * i;
        *(volatile uint16_t *)(bytes + 13 * i % 4090) = (uint16_t)~i;
        bytes[i % 64] = (uint8_t)i;
    }
    for (unsigned at = 0; at < 12; at++) {
        x86_outb(select_register(msix_at + at), 0xff);
    }
    set_control(0);
    for (unsigned i = 0; i < 3; i++) {
        set_entry(i, TO(0), VECTOR);
    }
    set_control(MSIX_ENABLE);
    await(0);
    guest_check_equal(send(TO(1), VECTOR, 1), 10, "msi: whatever is written, it goes on");
}

static void check_config(void)
{
    set_entry(MESSAGE_CFG, TO(0), VECTOR_CFG);
    driver_ring.index += 2 * ENTRIES; /* more than the queue has */
    kick();
    guest_check(guest_wait(&configs, WAIT_US), "msi: configuration's message");
    start_device();
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: after a reset of the device");
}

static void on_message_x2apic(struct guest_frame *frame)
{
    (void)frame;
    messages[guest_lapic_read(LAPIC_ID) & 1]++;
    guest_eoi();
}

static void check_x2apic(void)
{
    if (!guest_x2apic_available()) {
        guest_skip("msi: x2APIC", "not offered");
        return;
    }
    guest_set_handler(VECTOR, on_message_x2apic);
    guest_x2apic_enable();
    guest_check_equal(send(TO(0), VECTOR, 1), 1, "msi: to an x2APIC");
}

void guest_main(void)
{
    guest_set_handler(VECTOR, on_message);
    guest_set_handler(VECTOR_CFG, on_config);
    guest_set_handler(VECTOR_PIN, on_pin);
    guest_set_handler(2, on_nmi);
    take_logical_id();
    start_other();
    guest_check(ap_ready, "msi: two CPUs");
    guest_check(find_function(), "msi: a function with MSI-X");
    if (msix_at != 0) {
        set_control(MSIX_ENABLE);
        start_device();
        check_vectors();
        check_destinations();
        check_masks();
        check_no_vector();
        check_pin();
        if (guest_in_vm()) { /* QEMU's takes double words and wider only */
            check_odd_writes();
        }
        check_config();
        check_x2apic();
    }
    guest_check_summary();
}
