/*
 * Penalties for failed logins, across sessions: by client address (IPv6: its /64) and by user. A login waits before it
 * is decided: nothing for the first `free` failures, then `delay_ms`, doubling with each further one up to `most_ms`; one
 * failure is forgotten each `decay_ms`. A wrong password that was tried a moment ago and is tried again counts once: a
 * misconfigured client does not lock itself out.
 *
 * An address from which a user has logged in is known good for this user, and his logins from there never wait, whatever
 * others do from that address or to that user. So nobody can be locked out by his enemies.
 *
 * Any thread; short locks; memory is bounded by `entries`. All keys are hashes under a secret of this process, so nobody can
 * choose whose record to meet. The caller waits (a timer of its own), and tells how it ended:
 *
 *	penalty_begin() --> wait --> penalty_waited() --> the tier decides --> penalty_failed() | penalty_passed() | neither
 *
 * "Neither" stands for whatever says nothing about the credential: not now, no account, cancelled.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/attr.h"
#include "common/base/error.h"
#include "common/base/slice.h"
#include "common/net/addr.h"

struct penalty;

struct penalty_limits {
	uint64_t delay_ms; /* of the first failure that costs; 0: no penalties at all */
	uint64_t most_ms;  /* of any */
	unsigned free;     /* failures that cost nothing */
	uint64_t decay_ms; /* forgets one failure */
	unsigned waiting;  /* logins that wait at a time for one address; further ones are refused */
	uint64_t known_ms; /* how long an address stays known good for a user; 0: none is */
};

/* Records of failures that count, at most, of one address or user. */
#define PENALTY_SCORE_MOST 50
/* Addresses that are known good for one user; the one not used for longest gives way. */
#define PENALTY_KNOWN_MOST 8
/* Octets of a user's name that penalty_each() shows. */
#define PENALTY_NAME_MOST 79

/* entries: most addresses, and most users, of whom failures are held (rounded up; about 150 octets each); known: most users
 * with addresses known good (about 110 octets each). Touched memory grows with use. */
struct penalty *penalty_new(size_t entries, size_t known, const struct penalty_limits *limits);
/* After all threads that use it. */
void penalty_free(struct penalty **penalty);
void penalty_set_limits(struct penalty *penalty, const struct penalty_limits *limits);

/* One login. Zeroed: none, and the functions below that take it do nothing. */
struct penalty_attempt {
	struct penalty *penalty;
	uint64_t address, user, pair; /* keys */
	uint8_t prefix[16];           /* of the address */
	uint8_t prefix_len;
	bool is_waiting; /* counted among those of the address */
	char name[PENALTY_NAME_MOST + 1];
};

/*
 * A login is about to be decided. client: who the client is, not a proxy of ours. user: normalised. 0: to be decided after
 * *wait_ms_out milliseconds (penalty_waited() then, or when the client goes). ERR_FULL: too many wait for this address already.
 * A client without IP address (a unix socket) has no penalties.
 */
MUST_CHECK int penalty_begin(struct penalty *penalty, const struct addr *client, struct slice user,
	struct penalty_attempt *attempt, uint64_t *wait_ms_out);
/* It waits no more. Again and again is as once. */
void penalty_waited(struct penalty_attempt *attempt);
/* The credential was wrong. password: what was shown, remembered as a short keyed digest; empty: nothing that can be told
 * from another (a challenge's answer), counts each time. */
void penalty_failed(struct penalty_attempt *attempt, struct slice password);
/* The credential was right. */
void penalty_passed(struct penalty_attempt *attempt);

/* ---- for operators ---- */

struct penalty_record {
	bool is_user;
	const char *name; /* an address, "2001:db8::/64", or a user, cut at PENALTY_NAME_MOST */
	unsigned failures;
	uint64_t delay_ms; /* of the next login */
	unsigned waiting;
	uint64_t since_ms; /* the last failure that counted, milliseconds ago */
};
typedef void penalty_each_fn(void *arg, const struct penalty_record *record);
/* Shows some records, at most 16, and moves *at on, which is 0 at first; false: there are no more. fn is called without locks.
 * What changes meanwhile may be missed or told twice. */
bool penalty_each(const struct penalty *penalty, size_t *at, penalty_each_fn *fn, void *arg);
/* The name that a client's record has; "" without IP address. */
void penalty_address_name(const struct addr *client, char *name, size_t size);
/* One record; ERR_NOT_FOUND: there is none. Known good addresses stay. */
MUST_CHECK int penalty_clear_address(struct penalty *penalty, const struct addr *client);
MUST_CHECK int penalty_clear_user(struct penalty *penalty, struct slice user);
/* All records; how many there were. */
size_t penalty_clear_all(struct penalty *penalty);
