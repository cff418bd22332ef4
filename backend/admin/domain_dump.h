/* The operator's verb `domain dump`: all classes and domains as the commands that make them, for keeping beside a backup. */
#pragma once

#include "backend/admin/admin.h"

/* All classes and domains as the commands that make them, one a line. Any thread. */
MUST_CHECK int domain_dump_commands(struct store *store, struct buf *out);
void domain_dump_register(struct admin *admin);
