/* The operator's verbs about deleted messages: `account deleted`, `account undelete`. */
#pragma once

#include "backend/admin/admin.h"

void undelete_register(struct admin *admin);
