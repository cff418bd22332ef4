/*
 * The status listener: a tiny HTTP/1.1 server for GET and HEAD of /metrics (OpenMetrics), /health (200 while
 * the loop turns) and /ready (200 or 503: what a load balancer asks). Runs on one loop; every connection has
 * a deadline and small limits.
 */
#pragma once

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/conf/conf.h"
#include "common/net/loop.h"

struct status;

/* True: traffic is welcome. Otherwise appends the reason as one line. On the status loop. */
typedef bool status_ready_fn(void *arg, struct buf *reason);

/* Opens the listeners of section "status" (CONTROL_CONF_KEYS); *status_out NULL when there are none. why: for
 * the operator. */
MUST_CHECK int status_open(struct loop *loop, const struct conf *conf, status_ready_fn *ready, void *arg,
	struct buf *why, struct status **status_out);
/* From now on /ready says 503, for the load balancer to notice (drain). Any thread. */
void status_set_draining(struct status *status);
/* On the status loop. */
void status_close(struct status **status);
