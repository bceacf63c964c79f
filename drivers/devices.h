/* Which driver takes which function. */
#pragma once

#include "base/types.h"

struct nk_work_queue;
struct pci_function;

/* Gives every function to its driver, unless the command line says devices=none. After pci_init(),
 * with the scheduler running. */
void devices_init(void);

/* Give a function that nobody drives to its driver. Errors: -ENOENT there is no driver for it; the
 * driver's own, which the log has, and after which the function is as it was. */
int devices_probe(struct pci_function *f) NK_MUST_CHECK;

/* Where drivers recover from faults: what may block. */
extern struct nk_work_queue *devices_queue;
