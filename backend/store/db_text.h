/* Private: opening and closing the text index of a slot. */
#pragma once

#include "backend/store/db.h"

/* A text index that cannot be had is logged, and the slot is without one. options without a text index: its files go. */
void db_text_open(struct db_slot *slot, const struct store_options *options);
void db_text_close(struct db_slot *slot);
