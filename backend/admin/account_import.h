/* The operator's verb `account import`: many accounts from a file, in transactions of many (backend/import_rows.h reads it). */
#pragma once

#include "backend/admin/admin.h"

void account_import_register(struct admin *admin);
/* The program ends: nothing is waited for any more. Before its pool is freed. */
void account_import_end(void);
