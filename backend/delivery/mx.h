/*
 * The order in which the hosts of a domain are tried (RFC 5321 section 5.1): by preference, at random among equals, and none behind
 * ourselves. Pure; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mx_entry {
	const char *name; /* without final dot; borrowed */
	uint16_t preference;
};

/* Hosts that one try goes to at most; the others of a longer list are not looked at. */
#define MX_HOSTS_MOST 10

/*
 * Sorts entries, drops what is named twice, and all from ours on: own is our name, "" none. Returns how many are left, at most
 * MX_HOSTS_MOST; *is_own_out: we stand in the list. 0 with *is_own_out: we are the best host, the mail would go in circles.
 */
size_t mx_order(struct mx_entry *entries, size_t count, const char *own, uint64_t seed, bool *is_own_out);
