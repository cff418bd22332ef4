/*
 * The back-ends that this proxy joins clients to: named targets of the configuration and, made when a map first names them, hosts
 * under the terms of `backend-default`. A set belongs to one configuration; what is known of a host outlives it (backend.h).
 */
#pragma once

#include "common/conf/conf.h"
#include "mapping/usermap.h"
#include "proxy/backend.h"

struct backends;
/* From the sections `backend` and `backend-default`; states are shared with `old` (NULL: none). why: for the operator. */
MUST_CHECK int backends_new(
	const struct conf *conf, struct backends *old, struct buf *why, struct backends **backends_out);
void backends_free(struct backends **backends);
size_t backends_count(const struct backends *backends);
struct backend *backends_at(const struct backends *backends, size_t i);
/* NULL: none of this name. */
struct backend *backends_find(const struct backends *backends, const char *name);
/*
 * Where a map's answer leads, the first of its targets that is up for this protocol and not drained (if none is, the first): a counted back-end and a port (0: its own). ERR_NOT_FOUND: nowhere. ERR_NOT_NOW: a
 * name that is no section, or a host outside `hosts` of backend-default: *why_out says which, for an ERROR line. Any loop.
 */
MUST_CHECK int backends_route(struct backends *backends, const struct usermap_answer *answer,
	enum backend_protocol protocol, struct backend **backend_out, uint16_t *port_out,
	const char **why_out);
/* All places of the answer in their order, those apart that cannot be (*why_out): at most USERMAP_TARGETS_MOST counted back-ends and ports.
 * Returns how many. Any loop. */
unsigned backends_route_all(struct backends *backends, const struct usermap_answer *answer,
	struct backend **backends_out, uint16_t *ports_out, const char **why_out);
/* Names for usermap_config; NULL-ended view. */
const char *const *backends_names(const struct backends *backends);
