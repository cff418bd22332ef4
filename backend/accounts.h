/*
 * The operator's verbs about accounts: `account add|set|show|list|remove|password`, `quota`. On the main
 * loop; passwords are hashed by the workers, changes go through the slot's writer. Two verbs about one
 * address never run at the same time.
 */
#pragma once

#include "backend/backend.h"

void accounts_register(struct backend *b);
/* After the main loop has ended. */
void accounts_deinit(void);
