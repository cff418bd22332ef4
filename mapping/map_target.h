/*
 * Where an entry leads: one target, or several in the order in which they are tried. Pure.
 */
#pragma once

#include "mapping/usermap.h"

/* A view: of a field, of a value, of a record. */
struct map_target {
	enum usermap_target_kind kind;
	uint16_t port;
	struct slice name;
};

struct map_targets {
	unsigned count; /* 0: no mailbox */
	struct map_target at[USERMAP_TARGETS_MOST];
};

typedef bool map_target_known_fn(const void *arg, struct slice name);

/*
 * "b1", "10.0.0.12:1143", "b1,b2": names of back-ends, or hosts, separated by commas or blanks. is_known: the
 * configuration has a back-end of this name. ports: `host:port` is legal. ERR_SYNTAX: a part is neither; ERR_DENIED: it
 * has a port; ERR_EXISTS: it stands there twice; ERR_TOO_BIG: more than USERMAP_TARGETS_MOST; then bad_out is that part.
 */
MUST_CHECK int map_targets_parse(struct slice text, map_target_known_fn *is_known, const void *arg,
	bool ports, struct map_targets *targets_out, struct slice *bad_out);
/* Into an answer; hosts in lower case. */
void map_targets_fill(struct usermap_answer *answer, const struct map_targets *targets);
