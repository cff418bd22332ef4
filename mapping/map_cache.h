/*
 * What LDAP maps were answered, remembered for a while. A key is a keyed digest of the whole question (map, service,
 * user, address or login, password), so no name and no password is kept, and two questions that differ in anything share
 * nothing. Fixed number of places, the oldest of a set makes room; shards behind short locks; any thread. It judges no
 * age: it says when an answer was got.
 */
#pragma once

#include "common/crypto/digest.h"
#include "mapping/usermap.h"

enum map_cache_kind {
	MAP_CACHE_HIT,
	MAP_CACHE_NONE,
	MAP_CACHE_WRONG
};

struct map_cache_entry {
	enum map_cache_kind kind;
	/* of a hit */
	bool is_checked; /* the credential is right */
	bool can_check;  /* the map could hold a credential against it */
	bool is_routed;  /* there was a host */
	enum usermap_target target;
	uint16_t port;
	char account[USERMAP_ADDRESS_MOST + 1];
	char backend[USERMAP_HOST_MOST + 1];
};

struct map_cache_key {
	uint8_t digest[DIGEST_SHA256_LEN];
	uint64_t user; /* hash of the name, for forgetting one user */
};

struct map_cache;
struct map_cache *map_cache_new(size_t entries);
void map_cache_free(struct map_cache **cache);
/* question's texts go in whole, each with its length. */
void map_cache_key(const struct map_cache *cache, const struct usermap_question *question,
	struct map_cache_key *key_out);
/* Changes with each flush: what was asked before one is not put after it. */
uint64_t map_cache_epoch(struct map_cache *cache);
void map_cache_put(struct map_cache *cache, const struct map_cache_key *key, uint64_t epoch, uint64_t now_ms,
	const struct map_cache_entry *entry);
/* True and when it was got. */
bool map_cache_get(struct map_cache *cache, const struct map_cache_key *key,
	struct map_cache_entry *entry_out, uint64_t *got_ms_out);
/* name empty: all. */
void map_cache_flush(struct map_cache *cache, struct slice name);
size_t map_cache_count(struct map_cache *cache);
