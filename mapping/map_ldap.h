/*
 * One LDAP map: a question becomes a search of its connector, then a comparison (ldap-password) or a bind (ldap-bind);
 * the answer is remembered. Questions come on any loop and are answered there; the work is done on the connector's home
 * loop. The same question that is under way already is waited for.
 */
#pragma once

#include "common/auth/credential_cache.h"
#include "mapping/map_cache.h"

enum map_ldap_verdict {
	MAP_LDAP_HIT,
	MAP_LDAP_NONE,
	MAP_LDAP_WRONG,
	MAP_LDAP_NOT_NOW
};

struct map_ldap_answer {
	enum map_ldap_verdict verdict;
	bool is_cached, is_stale;
	struct map_cache_entry entry; /* of a hit */
	/* USERMAP_SHOWN_FETCH: the texts that are stored, each ended by a NUL. A view, until fn returns */
	struct slice stored;
};

struct map_ldap;

struct map_ldap_options {
	const char *name;
	bool by_bind;
	const struct usermap_connector *connector; /* copied */
	const char *const *backends;               /* NULL-ended, copied */
	bool ports;
	uint64_t positive_ms, negative_ms, stale_ms;
	size_t cache_entries;
	/* the set's */
	struct directory *directory;
	struct loop *home;
	struct credential_cache *credentials;
	struct work_pool *hash_pool;
};

struct map_ldap *map_ldap_new(const struct map_ldap_options *options);
/* Any thread; what is under way keeps it. */
void map_ldap_unref(struct map_ldap **map);
/* On the home, or after it ended: gives up all that is under way; nobody waits for it any more. */
void map_ldap_end(struct map_ldap *map);

typedef void map_ldap_fn(void *arg, const struct map_ldap_answer *answer);
struct map_ldap_request;
/*
 * 1: answered. 0: fn gets the answer on this loop, not within the call. What USERMAP_SHOWN_FETCH asks for is never
 * remembered and never shared: passwords in clear do not outlive the answer.
 */
MUST_CHECK int map_ldap_ask(struct map_ldap *map, const struct usermap_question *question, struct loop *loop,
	map_ldap_fn *fn, void *arg, struct map_ldap_answer *answer_out,
	struct map_ldap_request **request_out);
/* On the loop that asked: fn will not be called. Sets NULL, accepts NULL. */
void map_ldap_cancel(struct map_ldap_request **request);
/* Forgets what is remembered: of a name, or all. Any thread. */
void map_ldap_flush(struct map_ldap *map, struct slice name);
size_t map_ldap_count(const struct map_ldap *map);
struct directory *map_ldap_directory(const struct map_ldap *map);
