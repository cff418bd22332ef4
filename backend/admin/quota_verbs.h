/* The operator's verbs about quota beyond `quota` itself: `quota show`, `quota set`, `quota verify`. */
#pragma once

#include "backend/admin/admin.h"

void quota_verbs_register(struct admin *admin);
