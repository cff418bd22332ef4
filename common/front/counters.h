/*
 * The metrics of one service's fronts. Private to this room.
 */
#pragma once

#include "common/base/metrics.h"
#include "common/front/front.h"

struct front_counters {
	struct metric *connections;
	struct metric *open;
	struct metric *tls_failed;
	struct metric *logins[FRONT_RESULTS];
};
