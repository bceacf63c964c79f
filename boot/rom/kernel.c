/* Choosing, unpacking and placing the kernel. */

#include "boot/rom/rom.h"

#include "boot/pack/elf.h"
#include "boot/pack/slots.h"

#define WORKING_ROOM NK_MIB(1) /* what a kernel without files needs to get ready */

static struct slots slots;

static void read_slots(void)
{
    uint8_t bytes[SLOTS_BYTES];
    for (unsigned i = 0; i < SLOTS_BYTES; i++) {
        bytes[i] = cmos_read((uint8_t)(SLOTS_CMOS + i));
    }
    (void)slots_decode(&slots, bytes);
}

static void write_slots(void)
{
    uint8_t bytes[SLOTS_BYTES];
    slots_encode(&slots, bytes);
    for (unsigned i = 0; i < SLOTS_BYTES; i++) {
        cmos_write((uint8_t)(SLOTS_CMOS + i), bytes[i]);
    }
}

static const char *load(const struct pack *p, const struct pack_entry *e, uint32_t *entry)
{
    uint64_t top = memory.top; /* the unpacked image's place is free again afterwards */
    void *image = memory_take(e->unpacked, NK_PAGE_SIZE);
    const char *error = image == NULL ? "there is no RAM to unpack it" : pack_read(p, e, image);
    struct elf_plan plan;
    if (error == NULL) {
        error = elf_check(image, e->unpacked, &plan);
    }
    if (error == NULL &&
        (plan.end > memory.top || !memory_is_ram(plan.base, plan.end - plan.base))) {
        error = "there is no RAM for it";
    }
    if (error == NULL) {
        elf_place(image, &plan, (void *)plan.base);
        *entry = plan.entry;
        memory.bottom = nk_align_up(plan.end, NK_PAGE_SIZE) + WORKING_ROOM;
    }
    memory.top = top;
    return error;
}

struct rom_kernel kernel_load(const struct pack *p)
{
    bool usable[SLOTS];
    read_slots();
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        const struct pack_entry *e = pack_kernel(p, slot);
        const char *error = e == NULL ? NULL : pack_check(p, e);
        usable[slot] = e != NULL && error == NULL;
        if (error != NULL) {
            say("kernel %s in slot %c: %s", e->name, 'A' + slot, error);
        }
        if (e != NULL) {
            slots_is(&slots, slot, e->crc);
        }
    }
    for (;;) {
        unsigned slot = slots_choose(&slots, p->header->active, usable);
        if (slot == SLOTS_NONE) {
            say("no kernel can be started");
            stop();
        }
        if (slot != p->header->active) {
            say("slot %c is active but %s, slot %c is taken", 'A' + p->header->active,
                usable[p->header->active] ? "never got ready" : "not usable", 'A' + slot);
        }
        slots_count_try(&slots, slot);
        write_slots();
        const struct pack_entry *e = pack_kernel(p, slot);
        struct rom_kernel kernel = {.slot = slot, .other = usable[1 - slot]};
        const char *error = load(p, e, &kernel.entry);
        if (error == NULL) {
            say("kernel %s from slot %c, %s, try %u of %u", e->name, 'A' + slot,
                slots.good[slot] ? "known to be good" : "new", slots.tries[slot], SLOTS_TRIES);
            return kernel;
        }
        say("kernel %s in slot %c: %s", e->name, 'A' + slot, error);
        slots_mark_bad(&slots, slot);
        usable[slot] = false;
    }
}
