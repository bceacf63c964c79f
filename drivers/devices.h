/* Which driver takes which function. */
#pragma once

void devices_init(void); /* after pci_init(), with the scheduler running */
