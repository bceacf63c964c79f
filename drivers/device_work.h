/* Work of devices that needs a thread: recovery from faults. One thread does all of it, in the
 * order in which it was posted. */
#pragma once

#include "base/list.h"

struct device_work {
    struct nk_list node;
    void (*fn)(struct device_work *w); /* may block */
};

void device_work_start(void); /* before the first post; a thread may be made */
void device_work_init(struct device_work *w, void (*fn)(struct device_work *w));

/* Context: any but NMI. Nothing happens if it is posted already and has not begun. */
void device_work_post(struct device_work *w);
