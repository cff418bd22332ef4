/* The operator's verbs about deleted messages: `account deleted`, `account undelete`. */
#pragma once

#include "backend/backend.h"

void undelete_register(struct backend *b);
