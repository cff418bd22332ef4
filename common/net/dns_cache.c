#include "common/net/dns_cache.h"

#include <stdlib.h>

#include "common/base/mem.h"
#include "common/base/table.h"

#define KEY_MOST (DNS_NAME_MOST + 3)
#define ARENA_BLOCK 1024 /* about what an arena takes at least */

struct entry {
	char key[KEY_MOST + 1];
	size_t key_len, size;
	uint64_t until_ms;
	struct arena arena; /* of all that the answer holds */
	struct dns_answer answer;
};

struct dns_cache {
	struct table *entries;
	size_t octets;
};

struct dns_cache *dns_cache_new(void)
{
	struct dns_cache *c = xcalloc(1, sizeof(*c));

	c->entries = table_new();
	return c;
}

static void entry_free(struct entry *e)
{
	arena_deinit(&e->arena);
	free(e);
}

static void forget_all(struct dns_cache *c)
{
	struct slice key;
	void *value;

	for (size_t at = 0; table_next(c->entries, &at, &key, &value);) {
		table_remove(c->entries, key);
		entry_free(value);
	}
	c->octets = 0;
}

void dns_cache_free(struct dns_cache **cache)
{
	struct dns_cache *c = *cache;

	if (!c)
		return;
	*cache = NULL;
	forget_all(c);
	table_free(&c->entries);
	free(c);
}

static struct slice key_of(char key[KEY_MOST + 1], const char *name, enum dns_type type, bool any_name)
{
	size_t len = 0;

	key[len++] = (char)type;
	key[len++] = (char)any_name;
	for (; *name && len < KEY_MOST; name++)
		key[len++] = ascii_lower(*name);
	return slice_of(key, len);
}

static void forget(struct dns_cache *c, struct entry *e)
{
	table_remove(c->entries, slice_of(e->key, e->key_len));
	c->octets -= e->size;
	entry_free(e);
}

const struct dns_answer *dns_cache_find(
	struct dns_cache *c, const char *name, enum dns_type type, bool any_name, uint64_t now_ms)
{
	char key[KEY_MOST + 1];
	struct entry *e = table_get(c->entries, key_of(key, name, type, any_name));

	if (!e)
		return NULL;
	if (now_ms >= e->until_ms) {
		forget(c, e);
		return NULL;
	}
	e->answer.ttl = (uint32_t)((e->until_ms - now_ms) / 1000);
	return &e->answer;
}

static bool copy_slice(struct arena *a, struct slice *s)
{
	if (!s->p)
		return true;
	*s = arena_copy(a, *s);
	return s->p != NULL;
}

static bool copy_answer(struct entry *e, const struct dns_answer *answer)
{
	struct dns_record *records = arena_calloc(&e->arena, answer->count, sizeof(*records));

	if (answer->count && !records)
		return false;
	e->answer = *answer;
	e->answer.records = records;
	e->answer.detail = "";
	e->answer.canonical = arena_copy_str(&e->arena, slice_str(answer->canonical));
	for (unsigned i = 0; i < answer->count; i++) {
		records[i] = answer->records[i];
		if (!copy_slice(&e->arena, &records[i].ip) || !copy_slice(&e->arena, &records[i].name) ||
			!copy_slice(&e->arena, &records[i].text) || !copy_slice(&e->arena, &records[i].data))
			return false;
	}
	return e->answer.canonical != NULL;
}

void dns_cache_put(struct dns_cache *c, const char *name, enum dns_type type, bool any_name,
	const struct dns_answer *answer, uint64_t now_ms)
{
	uint32_t ttl = answer->ttl < DNS_CACHE_TTL_MOST_S ? answer->ttl : DNS_CACHE_TTL_MOST_S;
	struct entry *e, *old;

	if ((answer->error && answer->error != ERR_NOT_FOUND) || !ttl)
		return;
	e = xcalloc(1, sizeof(*e));
	arena_init(&e->arena, DNS_CACHE_ANSWER_MOST);
	if (!copy_answer(e, answer)) {
		entry_free(e);
		return;
	}
	e->size = sizeof(*e) + ARENA_BLOCK + e->arena.used;
	e->until_ms = now_ms + ttl * UINT64_C(1000);
	e->key_len = key_of(e->key, name, type, any_name).len;
	if (table_count(c->entries) >= DNS_CACHE_ANSWERS_MOST || c->octets + e->size > DNS_CACHE_OCTETS_MOST)
		forget_all(c);
	old = table_put(c->entries, slice_of(e->key, e->key_len), e);
	c->octets += e->size;
	if (old) {
		c->octets -= old->size;
		entry_free(old);
	}
}
