/*
 * What an operator may ask of a running proxy by mailtierctl: maps, back-ends, sessions. Main loop.
 */
#pragma once

#include "common/control/control.h"
#include "common/control/session_verbs.h"
#include "common/front/smtp_explain.h"
#include "proxy/config.h"

struct verbs {
	struct usermap_set *maps;
	struct config *config; /* the one in force; the program's count */
	struct session_kinds kinds;
	struct smtp_explain explain;
};

/* group: of the workers. verbs: the program's, changed by a reload; lives as long as the control. */
void verbs_register(struct control *control, struct loop_group *group, struct verbs *verbs);
