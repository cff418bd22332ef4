/*
 * The operator's verbs about sharing: `acl list|set|remove`, and public folders: `public add|list|remove`. On the main loop; each is
 * one job of the owner's slot.
 */
#pragma once

#include "backend/admin/admin.h"

void acl_verbs_register(struct admin *admin);
