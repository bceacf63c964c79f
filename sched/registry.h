/* Inside sched/ only: the list of all threads. */
#pragma once

#include "sched/thread_impl.h"

void registry_add(struct nk_thread *t); /* gives it its id */
void registry_remove(struct nk_thread *t);
