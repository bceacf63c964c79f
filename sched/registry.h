/* Inside sched/ only: the list of all threads. */
#pragma once

#include "sched/thread_impl.h"

void registry_add(struct nk_thread *t);                   /* gives it its id */
struct nk_thread *registry_living_child(uint64_t parent); /* NULL: there is none */
void registry_remove(struct nk_thread *t);
