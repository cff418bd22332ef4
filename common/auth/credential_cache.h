/*
 * Remembers which credentials were right, so that a slow hash is paid once: a keyed digest (HMAC-SHA256,
 * random key of this process) over realm, generation, service, user, stored text and password, with an
 * expiry. Never what was wrong. Bounded; sharded behind short locks; any thread. credential_check() is the
 * whole way: cache, then hash workers; the same check that is already under way is waited for and not done
 * twice.
 */
#pragma once

#include "common/auth/password.h"

struct credential_cache;

/* lifetime_ms 0: nothing is remembered. entries: most that are held (rounded up), about 24 bytes each. */
struct credential_cache *credential_cache_new(uint64_t lifetime_ms, size_t entries);
/* Checks still under way hold it until they land. */
void credential_cache_free(struct credential_cache **cache);
/* Any thread; what is held keeps the expiry it got. */
void credential_cache_set_lifetime(struct credential_cache *cache, uint64_t lifetime_ms);
/* Forgets all. */
void credential_cache_flush(struct credential_cache *cache);

/* The full tuple. All of it goes into the key: two questions that differ in one field share nothing. */
struct credential {
	struct slice realm;   /* who answers: the map's name; a back-end's account store */
	uint64_t generation;  /* of the realm's data; 0 where stored says all */
	struct slice service; /* "imap", "pop3", "submission" … */
	struct slice user;    /* normalised */
	struct slice stored;  /* what the password is held against; empty where a directory decides */
	struct slice password;
};

/* True if remembered and not expired. A few microseconds. */
bool credential_cache_has(struct credential_cache *cache, const struct credential *c);
/* Remembers that it was right. */
void credential_cache_add(struct credential_cache *cache, const struct credential *c);

struct credential_check;
/*
 * 1: answered now, *verdict_out is 0 (right), ERR_DENIED or ERR_NOT_NOW (workers' queue full). 0: fn gets the
 * same on the loop later, once. Everything is copied. cache may be NULL.
 */
MUST_CHECK int credential_check(struct credential_cache *cache, struct work_pool *pool, struct loop *loop,
	const struct credential *c, password_fn *fn, void *arg, int *verdict_out,
	struct credential_check **check_out);
/* On the loop: fn will not be called. Sets NULL, accepts NULL. In fn the check is gone already. */
void credential_check_cancel(struct credential_check **check);
