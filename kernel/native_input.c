/* Standard input of an application: whole lines, typed at the shell's console while it runs. */
#include "base/x86.h"
#include "kernel/console.h"
#include "kernel/native_impl.h"
#include "sched/timer.h"

#include <string.h>

#define KEY_INTERRUPT 0x03
#define KEY_END       0x04
#define KEY_BACKSPACE 0x08
#define KEY_KILL      0x15
#define KEY_DELETE    0x7f
#define WIPE          "\b \b"
#define LOOK_NS       50000000 /* how often a reader looks whether its application is ending */

void native_input_init(struct native_input *in)
{
    nk_mutex_init(&in->lock);
}

static void echo(const char *s)
{
    console_write(s, strlen(s));
}

static void wipe(struct native_input *in, size_t down_to)
{
    while (in->length > down_to) {
        in->length--;
        echo(WIPE);
    }
}

static void complete(struct native_input *in)
{
    in->complete = true;
    in->taken = 0;
}

/* One byte of the keyboard. False: Ctrl-C. */
static bool feed(struct native_input *in, char c)
{
    switch (c) {
    case KEY_INTERRUPT:
        echo("^C\n");
        return false;
    case KEY_END: /* of the line as it is; of nothing: the end of the input */
        complete(in);
        break;
    case KEY_BACKSPACE:
    case KEY_DELETE:
        wipe(in, in->length - (in->length > 0));
        break;
    case KEY_KILL:
        wipe(in, 0);
        break;
    case '\r':
    case '\n':
        echo("\n");
        in->text[in->length++] = '\n';
        complete(in);
        break;
    default:
        if ((unsigned char)c >= ' ' && in->length < sizeof(in->text) - 1) {
            in->text[in->length++] = c;
            console_write(&c, 1);
        }
        break;
    }
    return true;
}

bool native_input_read(struct native_input *in, const bool *ending, char *out, size_t max,
                       size_t *count)
{
    bool going_on = true;
    nk_mutex_lock(&in->lock);
    while (going_on && !in->complete && !__atomic_load_n(ending, __ATOMIC_RELAXED)) {
        int c;
        if (console_getc_until(&c, x86_rdtsc() + nk_ns_to_tsc(LOOK_NS))) {
            going_on = feed(in, (char)c);
        }
    }
    *count = 0;
    if (in->complete) {
        size_t left = in->length - in->taken;
        *count = left < max ? left : max;
        memcpy(out, in->text + in->taken, *count);
        in->taken += *count;
        if (in->taken == in->length) {
            in->complete = false;
            in->length = 0;
        }
    }
    nk_mutex_unlock(&in->lock);
    return going_on;
}
