/*
 * A growing byte buffer that owns its memory and has a limit.
 *
 *	data: [ taken | content ........ | free ]
 *	        ^0      ^start             ^end   ^cap
 *
 * Content is taken from the front and appended at the end. A zeroed struct is a valid empty buffer
 * without a limit of its own. Appending beyond the limit sets the sticky `failed` and adds nothing;
 * check it once after a run of appends. Any append or take may move the content.
 */
#pragma once

#include <stdarg.h>

#include "common/base/attr.h"
#include "common/base/slice.h"

struct buf {
	char *data;
	size_t start;
	size_t end;
	size_t cap;
	size_t limit; /* most bytes of content; 0: none */
	bool failed;
};

void buf_init(struct buf *b, size_t limit);
/* Frees the memory; the buffer is then empty, its limit stays. */
void buf_deinit(struct buf *b);
/* Empties, keeps the memory, clears `failed`. */
void buf_clear(struct buf *b);

static inline size_t buf_len(const struct buf *b)
{
	return b->end - b->start;
}

static inline struct slice buf_view(const struct buf *b)
{
	return (struct slice){b->data ? b->data + b->start : NULL, b->end - b->start};
}

/* Drops n bytes (at most all) from the front; an emptied buffer starts at 0 again. */
void buf_take(struct buf *b, size_t n);
/* Cuts the content to its first n bytes. */
void buf_cut(struct buf *b, size_t n);
/* Room for n more bytes at the end; NULL (and `failed`) beyond the limit. Then buf_added(). */
char *buf_reserve(struct buf *b, size_t n);
void buf_added(struct buf *b, size_t n);

void buf_add(struct buf *b, const void *p, size_t len);
void buf_add_slice(struct buf *b, struct slice s);
void buf_add_str(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, uint64_t n);
void buf_printf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);
void buf_vprintf(struct buf *b, const char *format, va_list args) PRINTF_LIKE(2, 0);
/* The content as a NUL-terminated string, a view until the next call; "" when failed or empty. */
const char *buf_str_view(struct buf *b);
