/*
 * `store backup` and its kin, `store restore`: the operator's verbs over a backup's folder (backup_dir.h). Main loop; the work is
 * done by a transfer's thread.
 */
#pragma once

#include "backend/admin/backup_io.h"

void backup_store_register(struct admin *admin);
