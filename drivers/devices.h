/* Which driver takes which function. */
#pragma once

struct nk_work_queue;

void devices_init(void); /* after pci_init(), with the scheduler running */

/* Where drivers recover from faults: what may block. */
extern struct nk_work_queue *devices_queue;
