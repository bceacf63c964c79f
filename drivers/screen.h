/* The host's screen as a terminal for text: VGA text mode or a linear framebuffer. What is written
 * goes into cells in memory; a thread draws what changed, at most fifty times a second.
 * Threading: screen_write from any context but NMI; the others as they say.
 * Spec: ECMA-48 for the few control sequences; VGA: IBM VGA "CRT Controller Registers". */
#pragma once

#include "base/types.h"

#define SCREEN_COLUMNS_MAX 160
#define SCREEN_ROWS_MAX    64

/* What draws the cells. Rows and columns from 0. */
struct screen_device {
    const char *name;
    unsigned columns, rows;
    void (*draw)(unsigned row, unsigned column, char c);
    void (*move_cursor)(unsigned row, unsigned column);
};

/* Take the device into use; kept, not copied. Thread context. Errors: -ENOMEM. */
int screen_start(const struct screen_device *device) NK_MUST_CHECK;

/* Into the cells; without a screen nothing happens. Wakes nobody, so that any lock may be held. */
void screen_write(const char *s, size_t len);
void screen_draw(void); /* let the thread draw what was written; any context, no lock held */
void screen_poll(void); /* nobody will call screen_draw(): look from time to time */

/* Panics, the only CPU that runs: write and draw at once, without locks. */
void screen_write_sync(const char *s, size_t len);

/* The devices; NULL: there is none. Thread context. */
const struct screen_device *vga_text_probe(void);
const struct screen_device *framebuffer_probe(pa_t base, unsigned width, unsigned height,
                                              unsigned pitch, unsigned bits_per_pixel);
