/*
 * Time grows with the size of what is given, and not faster: eight times the input may take at most some twenty
 * times the time. For unit tests; include after cmocka.h.
 */
#pragma once

#include <time.h>

#include "common/base/buf.h"

typedef void linear_fn(struct slice text);

/* CPU time of the best of three. */
static inline double linear_seconds(linear_fn *work, struct slice text)
{
	double best = 1e9;

	for (int i = 0; i < 3; i++) {
		struct timespec from, to;
		double took;

		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
		work(text);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
		took = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
		best = took < best ? took : best;
	}
	return best;
}

/* The text is start and then again until it is large enough, and end. */
static inline void linear_expect(linear_fn *work, const char *start, const char *again, const char *end)
{
	struct buf text = {0}, whole = {0};
	double took[2];

	buf_add_str(&text, start);
	for (int i = 0; i < 2; i++) {
		while (buf_len(&text) < (i ? 800000u : 100000u))
			buf_add_str(&text, again);
		buf_clear(&whole);
		buf_add_slice(&whole, buf_view(&text));
		buf_add_str(&whole, end);
		took[i] = linear_seconds(work, buf_view(&whole));
	}
	if (took[1] > 0.02 && took[1] > 24 * took[0])
		fail_msg("%s: %.6f s, of eight times the size %.6f s", again, took[0], took[1]);
	buf_deinit(&text);
	buf_deinit(&whole);
}
