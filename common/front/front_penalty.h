/*
 * How penalties for failed logins (common/auth/penalty.h) are configured and shown, the same in both programs: keys of the section
 * `limits`, and the verbs of mailtierctl. Main thread.
 */
#pragma once

#include "common/auth/penalty.h"
#include "common/conf/conf.h"
#include "common/control/control.h"

/* Rows of the section `limits`. */
extern const struct conf_key front_penalty_keys[];
/* As the configuration says. Free by penalty_free(), after all loops have ended. */
struct penalty *front_penalty_new(const struct conf *conf);
/* After a reload. */
void front_penalty_reload(struct penalty *penalty, const struct conf *conf);
/* "penalty list", "penalty clear". */
void front_penalty_register(struct control *control, struct penalty *penalty);

/* ---- for the fronts ---- */

/* penalty_begin() for a name as the client sent it: normalised, with the service's domain if it has none. penalty NULL: no wait. */
MUST_CHECK int front_penalty_begin(struct penalty *penalty, const struct addr *client, struct slice name,
	const char *domain, struct penalty_attempt *attempt, uint64_t *wait_ms_out);
