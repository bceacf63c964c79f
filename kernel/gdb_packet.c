/* gdb's remote protocol: packets, registers, memory, threads. One CPU, all others stopped.
 * Spec: GDB manual, appendix E "Remote Serial Protocol". */
#include <string.h>

#include "base/percpu.h"
#include "base/x86.h"
#include "drivers/uart_debug.h"
#include "kernel/format.h"
#include "kernel/gdb_impl.h"
#include "kernel/panic.h"

#define PACKET_MAX 2000
#define MEMORY_MAX (PACKET_MAX / 2 - 16)
#define INTERRUPT  0x03 /* gdb's Ctrl-C */
#define CR0_WP     (UINT64_C(1) << 16)
#define ALL        UINT64_MAX /* the thread id -1 */

/* In gdb's order for x86-64: 16 general registers and RIP of 8 bytes, then EFLAGS and 6 selectors
 * of 4. */
#define REG_RBX        1
#define REG_RBP        6
#define REG_RSP        7
#define REG_R12        12
#define REG_RIP        16
#define REG_CS         18
#define REG_SS         19
#define REG_COUNT      24
#define REG_IS_WIDE(i) ((i) <= REG_RIP)

static char packet[PACKET_MAX + 1], reply[PACKET_MAX + 1];
static size_t reply_length;
static bool begun;                       /* the start of a packet was seen while the node ran */
static bool awaits_stop;                 /* gdb let the node go on and waits to hear of its stop */
static const struct nk_thread *selected; /* by "Hg" */
static const struct nk_thread *listed;   /* the last thread of the list so far */

/* --- packets ---------------------------------------------------------------------------------- */

static int digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static uint64_t parse_hex(const char **s)
{
    uint64_t value = 0;
    if (strncmp(*s, "-1", 2) == 0) {
        *s += 2;
        return ALL;
    }
    for (; digit(**s) >= 0; (*s)++) {
        value = value << 4 | (unsigned)digit(**s);
    }
    return value;
}

/* "-" asks for the packet again; between packets, gdb's Ctrl-C says what is so already. */
static void receive(void)
{
    for (;;) {
        while (!begun && uart_debug_get() != '$') {
        }
        begun = false;
        size_t length = 0;
        uint8_t sum = 0, c;
        while ((c = uart_debug_get()) != '#') {
            if (c == '$' || length == PACKET_MAX) {
                length = sum = 0;
                continue;
            }
            packet[length++] = (char)c;
            sum = (uint8_t)(sum + c);
        }
        packet[length] = '\0';
        int high = digit((char)uart_debug_get());
        int low = digit((char)uart_debug_get());
        bool good = high * 16 + low == sum;
        uart_debug_put(good ? '+' : '-');
        if (good) {
            return;
        }
    }
}

bool gdb_wants_stop(uint8_t byte)
{
    begun = byte == '$';
    return begun || (byte == INTERRUPT && awaits_stop); /* not one that came after gdb had left */
}

static void put_char(char c)
{
    if (reply_length < PACKET_MAX) {
        reply[reply_length++] = c;
    }
}

static void put_text(const char *s)
{
    while (*s) {
        put_char(*s++);
    }
}

/* Bytes in the order of memory, which is little-endian for numbers. */
static void put_bytes(const void *data, size_t length)
{
    static const char digits[] = "0123456789abcdef";
    for (const uint8_t *p = data; length--; p++) {
        put_char(digits[*p >> 4]);
        put_char(digits[*p & 15]);
    }
}

static void put_hex(uint64_t value)
{
    char text[20];
    nk_snprintf(text, sizeof(text), "%llx", (unsigned long long)value);
    put_text(text);
}

static void send(void)
{
    uint8_t answer;
    do {
        uint8_t sum = 0;
        uart_debug_put('$');
        for (size_t i = 0; i < reply_length; i++) {
            uart_debug_put((uint8_t)reply[i]);
            sum = (uint8_t)(sum + (uint8_t)reply[i]);
        }
        char end[4];
        nk_snprintf(end, sizeof(end), "#%02x", sum);
        for (const char *p = end; *p; p++) {
            uart_debug_put((uint8_t)*p);
        }
        do {
            answer = uart_debug_get();
        } while (answer != '+' && answer != '-');
    } while (answer == '-');
    reply_length = 0;
}

static bool take_bytes(const char **s, void *out, size_t length)
{
    for (uint8_t *p = out; length--; p++, *s += 2) {
        if (digit((*s)[0]) < 0 || digit((*s)[1]) < 0) {
            return false;
        }
        *p = (uint8_t)(digit((*s)[0]) << 4 | digit((*s)[1]));
    }
    return true;
}

/* --- registers -------------------------------------------------------------------------------- */

/* Where the frame holds the register; NULL: it does not. */
static uint64_t *register_in(struct nk_trap_frame *f, unsigned i)
{
    uint64_t *const place_table[REG_COUNT] = {
        &f->rax, &f->rbx, &f->rcx, &f->rdx, &f->rsi, &f->rdi, &f->rbp, &f->rsp,    &f->r8, &f->r9,
        &f->r10, &f->r11, &f->r12, &f->r13, &f->r14, &f->r15, &f->rip, &f->rflags, &f->cs, &f->ss,
    };
    return i < REG_COUNT ? place_table[i] : NULL;
}

/* Of a thread that is not on a CPU the switch saved only what a function call preserves. */
static bool saved_register(const struct nk_thread *t, unsigned i, uint64_t *value)
{
    struct nk_thread_context c;
    if (!t || !nk_thread_saved_context(t, &c)) {
        return false;
    }
    const uint64_t r12_table[] = {c.r12, c.r13, c.r14, c.r15};
    switch (i) {
    case REG_RBX:
        *value = c.rbx;
        return true;
    case REG_RBP:
        *value = c.rbp;
        return true;
    case REG_RSP:
        *value = c.rsp;
        return true;
    case REG_RIP:
        *value = c.rip;
        return true;
    default:
        *value = i >= REG_R12 && i < REG_RIP ? r12_table[i - REG_R12] : 0;
        return i >= REG_R12 && i < REG_RIP;
    }
}

static void put_register(const struct nk_thread *t, unsigned i)
{
    unsigned cpu;
    uint64_t value;
    struct nk_trap_frame *f = gdb_frame_of(t, &cpu);
    const uint64_t *place = f ? register_in(f, i) : NULL;
    if (place) {
        put_bytes(place, REG_IS_WIDE(i) ? 8 : 4);
    } else if (!f && saved_register(t, i, &value)) {
        put_bytes(&value, REG_IS_WIDE(i) ? 8 : 4);
    } else {
        put_text(REG_IS_WIDE(i) ? "xxxxxxxxxxxxxxxx" : "xxxxxxxx");
    }
}

static void read_registers(const char *s)
{
    (void)s;
    for (unsigned i = 0; i < REG_COUNT; i++) {
        put_register(selected, i);
    }
}

static void read_register(const char *s)
{
    uint64_t i = parse_hex(&s);
    if (i < REG_COUNT) {
        put_register(selected, (unsigned)i);
    } else {
        put_text("E01");
    }
}

static bool set_register(unsigned i, const char **s)
{
    unsigned cpu;
    uint64_t value = 0;
    struct nk_trap_frame *f = gdb_frame_of(selected, &cpu);
    if (!f || i >= REG_COUNT || !take_bytes(s, &value, REG_IS_WIDE(i) ? 8 : 4)) {
        return false;
    }
    uint64_t *place = register_in(f, i);
    if (place && i != REG_CS && i != REG_SS) { /* another selector would only fault at IRET */
        *place = value;
    }
    return true;
}

static void write_register(const char *s)
{
    unsigned i = (unsigned)parse_hex(&s);
    put_text(*s++ == '=' && set_register(i, &s) ? "OK" : "E01");
}

static void write_registers(const char *s)
{
    bool good = true;
    for (unsigned i = 0; i < REG_COUNT && good; i++) {
        good = set_register(i, &s);
    }
    put_text(good ? "OK" : "E01");
}

/* --- memory ----------------------------------------------------------------------------------- */

static bool is_mapped(uint64_t address, uint64_t length)
{
    if (length == 0 || address + length - 1 < address) {
        return length == 0;
    }
    uint64_t page = address & ~(NK_PAGE_SIZE - 1);
    for (; panic_readable(page); page += NK_PAGE_SIZE) {
        if (address + length - 1 - page < NK_PAGE_SIZE) {
            return true;
        }
    }
    return false;
}

/* "address,length" and then `next`; the address range must be mapped. */
static bool parse_range(const char **s, char next, uint64_t *address, uint64_t *length)
{
    *address = parse_hex(s);
    if (*(*s)++ != ',') {
        return false;
    }
    *length = parse_hex(s);
    return *(*s)++ == next && *length <= MEMORY_MAX && is_mapped(*address, *length);
}

static void read_memory(const char *s)
{
    uint64_t address, length;
    if (parse_range(&s, '\0', &address, &length)) {
        put_bytes((const void *)address, length);
    } else {
        put_text("E0e");
    }
}

/* Code and constants, too, where breakpoints go: without CR0.WP rights to write are not checked. */
static void write_memory(const char *s)
{
    static uint8_t bytes[MEMORY_MAX];
    uint64_t address, length;
    if (!parse_range(&s, ':', &address, &length) || !take_bytes(&s, bytes, length)) {
        put_text("E0e");
        return;
    }
    uint64_t cr0 = x86_read_cr0();
    x86_write_cr0(cr0 & ~CR0_WP);
    memcpy((void *)address, bytes, length);
    x86_write_cr0(cr0);
    put_text("OK");
}

/* --- threads ---------------------------------------------------------------------------------- */

static uint64_t id_of(const struct nk_thread *t)
{
    return t ? nk_thread_id(t) : GDB_NO_THREAD;
}

static const struct nk_thread *find_thread(uint64_t id)
{
    const struct nk_thread *t = NULL;
    while ((t = nk_thread_walk(t)) && nk_thread_id(t) != id) {
    }
    return t;
}

static void list_threads(void)
{
    bool any = false;
    const struct nk_thread *t;
    while (reply_length < PACKET_MAX - 20 && (t = nk_thread_walk(listed)) != NULL) {
        put_char(any ? ',' : 'm');
        put_hex(nk_thread_id(t));
        listed = t;
        any = true;
    }
    if (!any) {
        put_char('l');
    }
}

static void describe_thread(const char *s)
{
    const struct nk_thread *t = find_thread(parse_hex(&s));
    char text[80];
    unsigned cpu;
    if (!t) {
        put_text("E01");
        return;
    }
    int length = (int)nk_snprintf(text, sizeof(text), "%s, %s", nk_thread_name(t),
                                  nk_thread_state_name(nk_thread_get_state(t)));
    if (gdb_frame_of(t, &cpu)) {
        length += (int)nk_snprintf(text + length, sizeof(text) - (size_t)length, " on CPU %u", cpu);
    }
    put_bytes(text, (size_t)length);
}

/* Which registers there are by default depends on the system gdb guesses. */
static const char target_xml[] = "<target version=\"1.0\"><architecture>i386:x86-64</architecture>"
                                 "<osabi>none</osabi></target>";

static void query(const char *s)
{
    static const char extra[] = "ThreadExtraInfo,", features[] = "Xfer:features:read:target.xml:";
    if (strncmp(s, "Supported", 9) == 0) {
        put_text("PacketSize=7d0;vContSupported+;qXfer:features:read+");
    } else if (strcmp(s, "fThreadInfo") == 0) {
        listed = NULL;
        if (nk_thread_walk(NULL)) {
            list_threads();
        } else {
            put_char('m');
            put_hex(GDB_NO_THREAD);
        }
    } else if (strcmp(s, "sThreadInfo") == 0) {
        list_threads();
    } else if (strncmp(s, extra, sizeof(extra) - 1) == 0) {
        describe_thread(s + sizeof(extra) - 1);
    } else if (strncmp(s, features, sizeof(features) - 1) == 0) {
        put_char('l'); /* all of it fits into one reply */
        put_text(target_xml);
    } else if (strcmp(s, "C") == 0) {
        put_text("QC");
        put_hex(id_of(selected));
    } else if (strncmp(s, "Attached", 8) == 0) {
        put_char('1');
    } else if (strncmp(s, "Symbol", 6) == 0) {
        put_text("OK");
    }
}

static void select_thread(const char *s)
{
    char what = *s++;
    uint64_t id = parse_hex(&s);
    const struct nk_thread *t = find_thread(id);
    if (what == 'g' && t) {
        selected = t;
    }
    put_text(t || id == 0 || id == ALL || id == GDB_NO_THREAD ? "OK" : "E01");
}

static void thread_alive(const char *s)
{
    uint64_t id = parse_hex(&s);
    put_text(find_thread(id) || id == GDB_NO_THREAD ? "OK" : "E01");
}

/* --- breakpoints ------------------------------------------------------------------------------ */

/* "Z<type>,<address>,<length>". Type 0 is left to gdb, which writes INT3 itself. */
static void breakpoint(const char *s, bool set)
{
    static const unsigned kind_table[] = {
        ['1' - '1'] = 0, ['2' - '1'] = 1, ['3' - '1'] = 3, ['4' - '1'] = 3};
    if (s[0] < '1' || s[0] > '4' || s[1] != ',') {
        return;
    }
    unsigned kind = kind_table[*s - '1'];
    s += 2;
    uint64_t address = parse_hex(&s);
    s += *s == ',';
    unsigned length = kind == 0 ? 1 : (unsigned)parse_hex(&s);
    bool done = set ? gdb_watch(address, kind, length) : gdb_unwatch(address, kind, length);
    put_text(done ? "OK" : "E01");
}

/* --- going on --------------------------------------------------------------------------------- */

static void put_stop(const struct nk_thread *stopped, int signal, uint64_t watched)
{
    char text[48];
    nk_snprintf(text, sizeof(text), "T%02xthread:%llx;", (unsigned)signal,
                (unsigned long long)id_of(stopped));
    put_text(text);
    if (watched) {
        nk_snprintf(text, sizeof(text), "watch:%llx;", (unsigned long long)watched);
        put_text(text);
    }
}

/* A step of the thread, if it is on a CPU. */
static bool order_step(const struct nk_thread *t, struct gdb_order *order)
{
    order->action = GDB_STEP;
    return gdb_frame_of(t, &order->cpu) != NULL;
}

/* "vCont;s:2;c": the first step asked for counts; all others stand meanwhile. */
static bool resume_some(const char *s, const struct nk_thread *stopped, struct gdb_order *order)
{
    order->action = GDB_CONTINUE;
    for (; *s == ';'; s += strcspn(s, ";")) {
        char action = *++s;
        const char *id = s + 1 + (action == 'S' ? 2 : 0);
        if (action == 's' || action == 'S') {
            const struct nk_thread *t = stopped;
            if (*id == ':') {
                id++;
                t = find_thread(parse_hex(&id));
            }
            return order_step(t ? t : stopped, order);
        }
    }
    return true;
}

/* True: the node goes on as `order` says. */
static bool resume(const char *s, const struct nk_thread *stopped, struct gdb_order *order)
{
    order->action = GDB_CONTINUE;
    bool go = true;
    if (strncmp(s, "vCont;", 6) == 0) {
        go = resume_some(s + 5, stopped, order);
    } else if (*s == 's' || *s == 'S') {
        go = order_step(stopped, order);
    } else if (*s == 'D') {
        put_text("OK");
        send();
    }
    awaits_stop = go && *s != 'D' && *s != 'k';
    if (!go) {
        put_text("E01");
    }
    return go;
}

static void other_packet(const char *s)
{
    if (strcmp(s, "vCont?") == 0) {
        put_text("vCont;c;C;s;S");
    }
}

struct gdb_order gdb_talk(const struct nk_thread *stopped, int signal, uint64_t watched)
{
    static const struct {
        char first;
        void (*act)(const char *rest);
    } packet_table[] = {
        {'g', read_registers}, {'G', write_registers}, {'p', read_register},
        {'P', write_register}, {'m', read_memory},     {'M', write_memory},
        {'q', query},          {'H', select_thread},   {'T', thread_alive},
    };
    selected = stopped;
    reply_length = 0;
    if (awaits_stop) {
        put_stop(stopped, signal, watched);
        send();
    }
    for (;;) {
        struct gdb_order order = {0};
        receive();
        const char *s = packet;
        if (strchr("cCsSDk", *s) || strncmp(s, "vCont;", 6) == 0) {
            if (resume(s, stopped, &order)) {
                return order;
            }
        } else if (*s == '?') {
            put_stop(stopped, signal, watched);
        } else if (*s == 'Z' || *s == 'z') {
            breakpoint(s + 1, *s == 'Z');
        } else {
            other_packet(s);
        }
        for (unsigned i = 0; i < NK_ARRAY_COUNT(packet_table); i++) {
            if (*s == packet_table[i].first) {
                packet_table[i].act(s + 1);
            }
        }
        send(); /* an empty answer: not supported */
    }
}
