/*
 * How every grammar is fed: whole, byte by byte, at every split, at the end of a page that nothing may be
 * read beyond, and with the n-th allocation of its arena failing. For unit tests; include after cmocka.h.
 */
#pragma once

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/slice.h"

/* A copy of some bytes right before a page that cannot be read: reading one octet too far ends the test. */
struct feed_page {
	char *map;
	size_t size;
	struct slice text;
};

static inline struct feed_page feed_page_copy(struct slice s)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t room = (s.len + page - 1) / page * page + page;
	struct feed_page p = {.size = room};

	p.map = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	require(p.map != MAP_FAILED);
	require(mprotect(p.map + room - page, page, PROT_NONE) == 0);
	p.text = slice_of(p.map + room - page - s.len, s.len);
	if (s.len)
		memcpy(p.map + room - page - s.len, s.p, s.len);
	return p;
}

static inline void feed_page_free(struct feed_page *p)
{
	munmap(p->map, p->size);
	p->map = NULL;
}

/*
 * Gives `in` to the grammar cut at `cut` (all input so far from what is not consumed, as a session's input
 * buffer would): first the octets up to cut, then all; step 1 feeds octet by octet. The function gets what
 * there is, says how much it consumed (>= 0) or fails (< 0), and is called again as long as it consumes
 * something.
 */
typedef ssize_t feed_fn(void *arg, struct slice in);

static inline ssize_t feed_from(feed_fn *fn, void *arg, struct slice in, size_t at, size_t end)
{
	for (;;) {
		struct feed_page page = feed_page_copy(slice_sub(in, at, end - at));
		ssize_t n = fn(arg, page.text);

		feed_page_free(&page);
		if (n < 0)
			return n;
		require((size_t)n <= end - at);
		at += (size_t)n;
		if (n == 0 || at == end)
			return (ssize_t)at;
	}
}

/* What was consumed in all, or the error. */
static inline ssize_t feed_split(feed_fn *fn, void *arg, struct slice in, size_t cut)
{
	ssize_t at = feed_from(fn, arg, in, 0, cut);

	return at < 0 ? at : feed_from(fn, arg, in, (size_t)at, in.len);
}

static inline ssize_t feed_bytes(feed_fn *fn, void *arg, struct slice in)
{
	ssize_t at = 0;

	for (size_t end = 1; end <= in.len && at >= 0; end++)
		at = feed_from(fn, arg, in, (size_t)at, end);
	return at;
}

/* Runs fn with the first, second, ... allocation failing until one run passes without a failure left to come;
 * fn must cope with each. Returns how many runs it took. */
typedef bool feed_alloc_fn(void *arg); /* true: went through whole */

static inline unsigned feed_failing_arena(feed_alloc_fn *fn, void *arg)
{
	unsigned n = 0;
	bool whole = false;

	while (!whole) {
		require(++n < 100000);
		arena_fail_after(n);
		whole = fn(arg);
		arena_fail_after(0);
	}
	return n;
}
