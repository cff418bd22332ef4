/* The queue and what sends for it, as the program has them: made when the store is open, ended before it is closed. */
#pragma once

#include "backend/backend.h"

struct sending;

/* Reasons in why. ERR_CONFIG. */
MUST_CHECK int sending_start(struct backend *b, struct buf *why);
/* After a reload: b->config. Its reasons go to the log. */
void sending_reload(struct backend *b);
/* No try begins any more; those under way go on. Accepts that there is none. */
void sending_drain(struct backend *b);
/* Some are under way. */
bool sending_is_busy(const struct backend *b);
/* They are cut. */
void sending_end(struct backend *b);
/* After the loops have ended and the store's threads (store_work_halt()), before store_work_stop(). */
void sending_free(struct backend *b);
