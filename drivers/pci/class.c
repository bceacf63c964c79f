/* Names of device classes. Spec: PCI Code and ID Assignment 1.11, section 1. */

#include "drivers/pci/pci.h"

struct class_name {
    uint16_t class; /* base class and sub-class */
    const char *name;
};

static const struct class_name class_name_table[] = {
    {0x0100, "SCSI controller"},
    {0x0101, "IDE controller"},
    {0x0106, "SATA controller"},
    {0x0107, "SAS controller"},
    {0x0108, "NVM controller"},
    {0x0180, "storage controller"},
    {0x0200, "Ethernet controller"},
    {0x0207, "InfiniBand controller"},
    {0x0280, "network controller"},
    {0x0300, "VGA controller"},
    {0x0302, "3D controller"},
    {0x0380, "display controller"},
    {0x0403, "audio device"},
    {0x0500, "RAM"},
    {0x0580, "memory controller"},
    {0x0600, "host bridge"},
    {0x0601, "ISA bridge"},
    {0x0604, "PCI bridge"},
    {0x0680, "bridge"},
    {0x0700, "serial controller"},
    {0x0780, "communication controller"},
    {0x0800, "interrupt controller"},
    {0x0880, "system peripheral"},
    {0x0c03, "USB controller"},
    {0x0c05, "SMBus controller"},
};

const char *pci_class_name(uint32_t class)
{
    for (unsigned i = 0; i < NK_ARRAY_COUNT(class_name_table); i++) {
        if (class_name_table[i].class == class >> 8) {
            return class_name_table[i].name;
        }
    }
    return NULL;
}
