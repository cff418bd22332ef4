/*
 * Answers of the DNS that one loop keeps, so that a question that is asked with every message costs no way to the resolver's thread
 * and back. Kept is what is certain (records, or that there are none) for its time to live, DNS_CACHE_TTL_MOST_S at most; bounded in
 * number and octets, by forgetting all when it is full. Private to this room.
 */
#pragma once

#include "common/net/dns.h"

#define DNS_CACHE_ANSWERS_MOST 4096
#define DNS_CACHE_OCTETS_MOST ((size_t)4 << 20)
#define DNS_CACHE_ANSWER_MOST 8192 /* octets of one; larger ones are not kept */
#define DNS_CACHE_TTL_MOST_S 300

struct dns_cache;

struct dns_cache *dns_cache_new(void);
void dns_cache_free(struct dns_cache **cache);
/* An answer that is still good: a view until the next call, its ttl counted down. NULL: there is none. name: without final dot. */
const struct dns_answer *dns_cache_find(
	struct dns_cache *cache, const char *name, enum dns_type type, bool any_name, uint64_t now_ms);
/* Keeps a copy, if it is worth keeping. */
void dns_cache_put(struct dns_cache *cache, const char *name, enum dns_type type, bool any_name,
	const struct dns_answer *answer, uint64_t now_ms);
