/*
 * What a directory said of users, remembered for a while. A key is a keyed digest of the whole question (service, user,
 * address or login, what was wanted, password; the cache's own key stands for who owns it), so no name and no password
 * is kept, and two questions that differ in anything share nothing. Fixed number of places; in a full set the oldest makes
 * room, of those that found nobody first, so that a flood of made-up names pushes out next to no user. Shards behind short
 * locks; any thread. It judges no age: it says when an answer was got.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/base/slice.h"
#include "common/crypto/digest.h"

#define DIRECTORY_CACHE_ACCOUNT_MOST 320
#define DIRECTORY_CACHE_TEXT_MOST 1100
#define DIRECTORY_CACHE_DN_MOST 511

enum directory_cache_kind {
	DIRECTORY_CACHE_HIT,
	DIRECTORY_CACHE_NONE,
	DIRECTORY_CACHE_WRONG
};

struct directory_cache_entry {
	enum directory_cache_kind kind;
	/* of a hit */
	bool is_checked; /* the credential is right */
	bool can_check;  /* a credential could be held against the entry */
	bool send_only;  /* the entry says that the user may only send */
	char account[DIRECTORY_CACHE_ACCOUNT_MOST + 1];
	char host[DIRECTORY_CACHE_TEXT_MOST + 1]; /* values of the host attribute, separated by commas */
	char dn[DIRECTORY_CACHE_DN_MOST + 1];     /* for people: cut where it is longer */
};

struct directory_cache_question {
	struct slice service, name, password;
	unsigned wanted; /* what is asked for, in the asker's numbers */
};

struct directory_cache_key {
	uint8_t digest[DIGEST_SHA256_LEN];
	uint64_t user; /* hash of the name, for forgetting one user */
};

struct directory_cache;
struct directory_cache *directory_cache_new(size_t entries);
void directory_cache_free(struct directory_cache **cache);
/* question's texts go in whole, each with its length. */
void directory_cache_key(const struct directory_cache *cache, const struct directory_cache_question *question,
	struct directory_cache_key *key_out);
/* Changes with each flush: what was asked before one is not put after it. */
uint64_t directory_cache_epoch(struct directory_cache *cache);
void directory_cache_put(struct directory_cache *cache, const struct directory_cache_key *key, uint64_t epoch,
	uint64_t now_ms, const struct directory_cache_entry *entry);
/* True and when it was got. */
bool directory_cache_get(struct directory_cache *cache, const struct directory_cache_key *key,
	struct directory_cache_entry *entry_out, uint64_t *got_ms_out);
/* name empty: all. */
void directory_cache_flush(struct directory_cache *cache, struct slice name);
size_t directory_cache_count(struct directory_cache *cache);
