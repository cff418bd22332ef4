/* The operator's verbs about the text index: `index status`, `index rebuild`. */
#pragma once

#include "backend/admin/admin.h"

void index_verbs_register(struct admin *admin);
