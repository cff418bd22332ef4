/*
 * Waiting for a descriptor in a fuzz driver. libFuzzer's alarm interrupts poll(2) every few seconds: that is no answer.
 */
#pragma once

#include <errno.h>
#include <poll.h>

/* As poll() of one descriptor, begun again when a signal interrupted it. */
static inline int ready(struct pollfd *p, int ms)
{
	int n;

	do
		n = poll(p, 1, ms);
	while (n < 0 && errno == EINTR);
	return n;
}
