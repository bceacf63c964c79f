/* A PC with a function that has all kinds of messages (pci_board.h), as the tests of messages see
 * it. Each program that includes this tests one side of them. */
#pragma once

#include "apic.h"
#include "pci_board.h"

#define VCPUS 4

#define BALLOON  2 /* slots */
#define SLOT     3
#define TABLE    UINT64_C(0xc0010000)
#define ENTRY(n) (TABLE + 16 * (n))
#define PENDING  (TABLE + 0x800)
#define GSI      19 /* of the slot's pin */

#define COMMAND 0x04
#define MEMORY  2
#define MASTER  4
#define STATUS  0x06
#define BAR0    0x10

#define MSI       0x40 /* where the capabilities are */
#define MSIX      (MSI + 24)
#define CONTROL   2
#define ENABLE    0x8000
#define MASK_ALL  0x4000
#define VECTOR(n) (0x60 + 0x10 * (n)) /* that the tests give to the n-th message */
#define TO(cpu)   (0xfee00000 | (cpu) << 12)
#define LOGICAL   (1u << 2)
#define HINT      (1u << 3)

static struct fixture *f;
static struct vpci_function *board;

/* --- accesses -----------------------------------------------------------------------------------
 */

static inline uint32_t config_read(unsigned slot, unsigned reg, unsigned size)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
    return (uint32_t)fixture_in(f, (uint16_t)(0xcfc + reg % 4), size);
}

static inline void config_write(unsigned slot, unsigned reg, unsigned size, uint32_t value)
{
    fixture_out(f, 0xcf8, 4, 0x80000000u | slot << 11 | (reg & 0xfc));
    fixture_out(f, (uint16_t)(0xcfc + reg % 4), size, value);
}

static inline uint64_t get(uint64_t at, unsigned size)
{
    return fixture_mmio_read(f, at, size);
}

static inline void set(uint64_t at, unsigned size, uint64_t value)
{
    fixture_mmio_write(f, at, size, value);
}

static inline void msix(uint32_t control)
{
    config_write(SLOT, MSIX + CONTROL, 2, control);
}

static inline void set_entry(unsigned n, uint64_t address, uint32_t data)
{
    set(ENTRY(n), 4, address & UINT32_MAX);
    set(ENTRY(n) + 4, 4, address >> 32);
    set(ENTRY(n) + 8, 4, data);
    set(ENTRY(n) + 12, 4, 0);
}

/* One message with this address and data: who takes its vector? */
static inline unsigned send(uint64_t address, uint32_t data)
{
    set_entry(0, address, data);
    vpci_message(board, 0);
    return pc_takers(f, (uint8_t)data);
}

static inline int setup(void **state)
{
    (void)state;
    f = apic_create(VCPUS);
    board = pci_board_add(f);
    config_write(SLOT, BAR0, 4, TABLE);
    config_write(SLOT, COMMAND, 2, MEMORY | MASTER);
    for (unsigned i = 0; i < BOARD_MSIX; i++) {
        set_entry(i, TO(0), VECTOR(i));
    }
    return 0;
}

static inline int teardown(void **state)
{
    (void)state;
    fixture_destroy(f);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
