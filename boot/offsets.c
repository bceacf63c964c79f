/* Offsets for boot/ap.asm. */

#include "boot/ap.h"

void nk_boot_offsets(void);
void nk_boot_offsets(void)
{
    OFFSETS_MEMBER(BOOT_AP_EFER, struct boot_ap, efer);
    OFFSETS_MEMBER(BOOT_AP_ROOT, struct boot_ap, root);
    OFFSETS_MEMBER(BOOT_AP_ENTRY, struct boot_ap, entry);
    OFFSETS_VALUE(BOOT_AP_SIZE, sizeof(struct boot_ap));
}
