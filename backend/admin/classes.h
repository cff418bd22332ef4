/* The operator's verbs about account classes: `class add|set|show|list|remove`. Main loop; records lie in slot 0. */
#pragma once

#include "backend/admin/admin.h"

void classes_register(struct admin *admin);
