/*
 * The connectors of a set: made from the configuration, kept as long as any map asks them. On the set's loop. Not for
 * other rooms.
 */
#pragma once

#include "mapping/usermap_private.h"

/* Makes those of the configuration that are new or changed; connectors_out has all, in its order. */
MUST_CHECK int usermap_connectors_make(
	struct usermap_set *set, const struct usermap_config *config, struct connector ***connectors_out);
/* Puts them in force; those that are not among them go when nobody asks them any more. */
void usermap_connectors_use(struct usermap_set *set, struct connector **connectors, size_t count);
/* Undoes usermap_connectors_make(). */
void usermap_connectors_drop(struct usermap_set *set, struct connector **connectors, size_t count);
/* Closes those that went and that nobody asks. */
void usermap_connectors_sweep(struct usermap_set *set);
void usermap_connectors_close(struct usermap_set *set);
