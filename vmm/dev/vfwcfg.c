/* The firmware configuration device: what a firmware cannot find out about its machine.
 * Spec: QEMU docs/specs/fw_cfg.rst, the port interface without DMA.
 *
 * An item is selected by its number at port 0x510, and its bytes are read one by one at 0x511. All
 * items follow from the VM's configuration; nothing is written. */
#include "core/bus.h"
#include "core/vm.h"
#include "dev/platform.h"

#define PORT          0x510
#define PORTS         2
#define OFFSET_SELECT 0
#define OFFSET_DATA   1

#define ITEM_SIGNATURE  0x0000
#define ITEM_ID         0x0001
#define ITEM_RAM_SIZE   0x0003
#define ITEM_CPUS       0x0005
#define ITEM_MAX_CPUS   0x000f
#define ITEM_DIRECTORY  0x0019
#define ITEM_FIRST_FILE 0x0020

#define ID_PORTS       1 /* the interface that is there */
#define FILE_NAME_SIZE 56
#define E820_RAM       1
#define ITEMS_MAX      8
#define DATA_SIZE      512

struct vfwcfg_item {
    uint16_t number, start, size;
};

struct vfwcfg {
    uint32_t offset; /* into the selected item */
    uint16_t selected;
    struct vfwcfg_item item[ITEMS_MAX];
    unsigned item_count, used;
    uint8_t data[DATA_SIZE];
};

/* --- the items -------------------------------------------------------------------------------- */

static void put(struct vfwcfg *c, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        c->data[c->used++] = (uint8_t)(value >> (8 * i));
    }
}

/* The directory of files alone is big-endian. */
static void put_big(struct vfwcfg *c, uint64_t value, unsigned bytes)
{
    for (unsigned i = bytes; i > 0; i--) {
        c->data[c->used++] = (uint8_t)(value >> (8 * (i - 1)));
    }
}

/* What was put since `start` is an item. */
static void add_item(struct vfwcfg *c, unsigned number, unsigned start)
{
    c->item[c->item_count++] = (struct vfwcfg_item){
        .number = (uint16_t)number, .start = (uint16_t)start, .size = (uint16_t)(c->used - start)};
}

static void add_number(struct vfwcfg *c, unsigned number, uint64_t value, unsigned bytes)
{
    unsigned start = c->used;

    put(c, value, bytes);
    add_item(c, number, start);
}

static uint64_t low_ram(const struct vm *vm)
{
    uint64_t size = vm->config.mem_bytes;

    return size < PLATFORM_LOW_RAM_END ? size : PLATFORM_LOW_RAM_END;
}

/* RAM as the memory controller has it: SeaBIOS takes the first entry's end for the end of low RAM,
 * and knows the hole below 1 MiB itself. */
static void put_e820(struct vfwcfg *c, const struct vm *vm)
{
    uint64_t low = low_ram(vm), high = vm->config.mem_bytes - low;

    put(c, 0, 8);
    put(c, low, 8);
    put(c, E820_RAM, 4);
    if (high != 0) {
        put(c, VMM_GIB(4), 8);
        put(c, high, 8);
        put(c, E820_RAM, 4);
    }
}

static void put_sercon_port(struct vfwcfg *c, const struct vm *vm)
{
    (void)vm;
    put(c, PLATFORM_COM1, 2); /* SeaBIOS copies its screen there */
}

static const struct {
    const char *name;
    void (*put)(struct vfwcfg *c, const struct vm *vm);
} file_table[] = {
    {"etc/e820", put_e820},
    {"etc/sercon-port", put_sercon_port},
};

static void put_directory_entry(struct vfwcfg *c, const struct vfwcfg_item *file, const char *name)
{
    unsigned length = 0;

    put_big(c, file->size, 4);
    put_big(c, file->number, 2);
    put_big(c, 0, 2);
    while (name[length] != '\0') {
        put(c, (uint8_t)name[length++], 1);
    }
    while (length++ < FILE_NAME_SIZE) {
        put(c, 0, 1);
    }
}

static void make_items(struct vfwcfg *c, const struct vm *vm)
{
    unsigned first = c->item_count, start;

    for (unsigned i = 0; i < VMM_ARRAY_COUNT(file_table); i++) {
        start = c->used;
        file_table[i].put(c, vm);
        add_item(c, ITEM_FIRST_FILE + i, start);
    }
    start = c->used;
    put_big(c, VMM_ARRAY_COUNT(file_table), 4);
    for (unsigned i = 0; i < VMM_ARRAY_COUNT(file_table); i++) {
        put_directory_entry(c, &c->item[first + i], file_table[i].name);
    }
    add_item(c, ITEM_DIRECTORY, start);
    add_number(c, ITEM_SIGNATURE, 'Q' | 'E' << 8 | 'M' << 16 | 'U' << 24, 4);
    add_number(c, ITEM_ID, ID_PORTS, 4);
    add_number(c, ITEM_RAM_SIZE, low_ram(vm), 8);
    add_number(c, ITEM_CPUS, vm->vcpu_count, 2);
    add_number(c, ITEM_MAX_CPUS, vm->vcpu_count, 2);
}

/* --- ports ------------------------------------------------------------------------------------ */

/* The item's next byte, zero behind its end and in items that are not there. */
static uint8_t next_byte(struct vfwcfg *c)
{
    for (unsigned i = 0; i < c->item_count; i++) {
        if (c->item[i].number == c->selected && c->offset < c->item[i].size) {
            return c->data[c->item[i].start + c->offset++];
        }
    }
    return 0;
}

static void vfwcfg_access(struct vdev *dev, struct vdev_access *a)
{
    struct vfwcfg *c = dev->state;

    if (a->write) {
        if (a->offset == OFFSET_SELECT && a->size == 2) {
            c->selected = (uint16_t)a->value;
            c->offset = 0;
        }
    } else {
        a->value = a->offset == OFFSET_DATA ? next_byte(c) : 0;
    }
}

/* --- class ------------------------------------------------------------------------------------ */

static void vfwcfg_reset(struct vdev *dev)
{
    struct vfwcfg *c = dev->state;

    c->selected = ITEM_SIGNATURE;
    c->offset = 0;
}

static int vfwcfg_create(struct vdev *dev)
{
    make_items(dev->state, dev->vm);
    return vdev_claim(dev, VDEV_PIO, PORT, PORTS, vfwcfg_access);
}

static int vfwcfg_transfer(struct vdev *dev, struct vdev_stream *s)
{
    struct vfwcfg *c = dev->state;
    int error = s->transfer(s, &c->selected, sizeof(c->selected));

    return error != 0 ? error : s->transfer(s, &c->offset, sizeof(c->offset));
}

const struct vdev_class vfwcfg_class = {
    .name = "vfwcfg",
    .state_size = sizeof(struct vfwcfg),
    .version = 1,
    .create = vfwcfg_create,
    .reset = vfwcfg_reset,
    .save = vfwcfg_transfer,
    .load = vfwcfg_transfer,
};
