/* The verbs about the queue: queue list, show, retry, hold, release, remove, flush. */
#pragma once

#include "backend/admin/admin.h"

void queue_verbs_register(struct admin *admin);
/* The queue's gauges, while the store is open. */
void queue_verbs_measure(struct admin *admin, bool is_on);
