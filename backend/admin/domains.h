/*
 * The operator's verbs about domains: `domain add|set|show|list|remove`. Main loop; records lie in slot 0. A verb about a domain and one
 * about an address in it never run at the same time (backend/admin/claims.h).
 */
#pragma once

#include "backend/admin/admin.h"

void domains_register(struct admin *admin);
