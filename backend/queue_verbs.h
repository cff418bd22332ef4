/* The verbs about the queue: queue list, show, retry, hold, release, remove, flush. */
#pragma once

#include "backend/backend.h"

void queue_verbs_register(struct backend *b);
/* The queue's gauges, while the store is open. */
void queue_verbs_measure(struct backend *b, bool is_on);
