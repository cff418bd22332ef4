/*
 * The operator's verbs that carry accounts: `store export|import`, `store backup|restore`, `account move`. Each runs as a job of a
 * thread of its own (backup_io.h) and answers when all is on disk. Main loop.
 */
#pragma once

#include "backend/admin/backup_io.h"

void backup_verbs_register(struct admin *admin);
