/* Growing buffer. Invariant: start <= end <= cap; limit, where set, bounds end - start. */
#include "common/base/buf.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define BUF_FIRST 256

void buf_init(struct buf *b, size_t limit)
{
	*b = (struct buf){.limit = limit};
}

void buf_deinit(struct buf *b)
{
	free(b->data);
	buf_init(b, b->limit);
}

void buf_clear(struct buf *b)
{
	b->start = b->end = 0;
	b->failed = false;
}

void buf_take(struct buf *b, size_t n)
{
	if (n >= b->end - b->start)
		b->start = b->end = 0;
	else
		b->start += n;
}

void buf_cut(struct buf *b, size_t n)
{
	if (n < b->end - b->start)
		b->end = b->start + n;
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t len = b->end - b->start;
	size_t cap;

	if (b->failed || n > SIZE_MAX / 4 - len || (b->limit && len + n > b->limit)) {
		b->failed = true;
		return NULL;
	}
	if (n <= b->cap - b->end)
		return b->data + b->end;
	/* Moving is worth it only if it frees at least half: otherwise appends would be quadratic. */
	if (b->start > b->cap / 2 && n <= b->cap - len) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
		return b->data + b->end;
	}
	cap = b->cap ? b->cap : BUF_FIRST;
	while (cap < len + n)
		cap *= 2;
	if (b->start) {
		memmove(b->data, b->data + b->start, len);
		b->start = 0;
		b->end = len;
	}
	b->data = xreallocarray(b->data, cap, 1);
	b->cap = cap;
	return b->data + b->end;
}

void buf_added(struct buf *b, size_t n)
{
	require(n <= b->cap - b->end);
	b->end += n;
}

void buf_add(struct buf *b, const void *p, size_t len)
{
	char *room;

	if (len == 0)
		return;
	room = buf_reserve(b, len);
	if (!room)
		return;
	memcpy(room, p, len);
	b->end += len;
}

void buf_add_slice(struct buf *b, struct slice s)
{
	buf_add(b, s.p, s.len);
}

void buf_add_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, uint64_t n)
{
	char digits[20];
	size_t i = sizeof(digits);

	do {
		digits[--i] = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	buf_add(b, digits + i, sizeof(digits) - i);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
	va_list again;
	char *room;
	int len;

	va_copy(again, args);
	len = vsnprintf(NULL, 0, format, again);
	va_end(again);
	if (len < 0) {
		b->failed = true;
		return;
	}
	room = buf_reserve(b, (size_t)len + 1);
	if (!room)
		return;
	vsnprintf(room, (size_t)len + 1, format, args);
	b->end += (size_t)len;
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(b, format, args);
	va_end(args);
}

const char *buf_str_view(struct buf *b)
{
	char *room;
	size_t limit = b->limit;

	if (b->failed)
		return "";
	b->limit = 0; /* the NUL is not content */
	room = buf_reserve(b, 1);
	b->limit = limit;
	if (!room)
		return "";
	*room = '\0';
	return b->data + b->start;
}
