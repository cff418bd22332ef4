/* The operator's verbs about the store: `store check`, `store stat`, `store repair`; and the same on a closed store from the
 * command line. */
#pragma once

#include "backend/admin/admin.h"

void store_verbs_register(struct admin *admin);
/* `mailtier-backend --store DIR check|stat|repair`: the exit status. */
int store_verbs_offline(const char *dir, int argc, char **argv);
