/*
 * One generation of a file map: immutable once built, counted, read by any thread without a lock. Entries
 * stand in one compact block, found through a hash table of 32-bit offsets; expressions and the default entry
 * beside them.
 */
#pragma once

#include "common/base/attr.h"
#include "mapping/map_target.h"

#define MAP_EXPRESSIONS_MOST 1000
#define MAP_EXPRESSION_MOST 1024 /* octets of a pattern */
#define MAP_MATCH_LIMIT 5000     /* PCRE2 steps that one expression may take over one name */
#define MAP_BACKENDS_MOST 60000

/* An entry's content: what is given to be added, and what is found (views into the data). */
struct map_entry {
	struct slice key;      /* as compared: address, "@domain", pattern, "*" */
	struct slice account;  /* empty: the name itself */
	struct slice password; /* empty: none */
	struct map_targets targets;
	bool send_only;
	uint32_t line;
};

struct map_data;

/* entries: how many will come at most; backends: NULL-ended, copied. The count is 1. */
struct map_data *map_data_new(size_t entries, size_t bytes, const char *const *backends);
struct map_data *map_data_ref(struct map_data *d);
void map_data_unref(struct map_data **d);

/*
 * Building, before anybody else sees it. ERR_EXISTS: the key is there, on *line_out; ERR_TOO_BIG.
 * backend_is_known(): an entry of USERMAP_BACKEND must name one of the back-ends.
 */
bool map_data_has_backend(const struct map_data *d, struct slice name);
MUST_CHECK int map_data_add(struct map_data *d, const struct map_entry *entry, uint32_t *line_out);
MUST_CHECK int map_data_add_default(struct map_data *d, const struct map_entry *entry, uint32_t *line_out);
/* ERR_SYNTAX: reason_out has words. The key is the pattern without its slashes. */
MUST_CHECK int map_data_add_expression(
	struct map_data *d, const struct map_entry *entry, struct buf *reason_out, uint32_t *line_out);
/* Gives back what was reserved and not needed. */
void map_data_seal(struct map_data *d);

size_t map_data_count(const struct map_data *d);
/* Memory that it takes. */
size_t map_data_bytes(const struct map_data *d);

enum map_rule {
	MAP_EXACT,
	MAP_WITHOUT_DETAIL,
	MAP_DOMAIN,
	MAP_EXPRESSION,
	MAP_DEFAULT
};
/* Told of every rule that is tried; line 0 and no entry: nothing there. */
typedef void map_trace_fn(void *arg, enum map_rule rule, struct slice key, uint32_t line, bool hit);

/*
 * Finds the entry for a normalised name by the precedence: exact, without detail, @domain, expressions in
 * order, "*". account is filled in when the entry has none. ERR_NOT_FOUND; ERR_NOT_NOW: an expression met its
 * match limit (its line in entry_out->line). trace may be NULL.
 */
MUST_CHECK int map_data_find(const struct map_data *d, struct slice name, struct map_entry *entry_out,
	char account[USERMAP_ADDRESS_MOST + 1], map_trace_fn *trace, void *arg);
