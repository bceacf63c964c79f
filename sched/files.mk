sched-y += condition.c deadline.c lend.c mutex.c partition.c steal.c queue.c rwlock.c tls.c wait_any.c work.c
sched-y += fp.c idle.c registry.c rq.c switch.asm switch.c sync.c thread.c thread_control.c timer.c wait.c
