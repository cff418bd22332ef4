/* Private: what check and repair do about the queue. */
#pragma once

#include "backend/store/check.h"
#include "backend/store/repair.h"

/* Rows that agree with each other, and sums. */
MUST_CHECK int queue_check(struct check *k);
/* Makes them agree: a recipient without a message and a message without recipients go, indexes and sums are made anew from the recipients. In no
 * transaction; before repair_blobs(). */
MUST_CHECK int repair_queue(struct repair *r);
