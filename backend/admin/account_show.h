/* The operator's verbs that show accounts: `account show|list`, `quota`. Main loop and the store's readers. */
#pragma once

#include "backend/admin/admin.h"

void account_show_register(struct admin *admin);
