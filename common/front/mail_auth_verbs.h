/*
 * What an operator may ask about keys that sign mail: mailtierctl dkim list. The same on both tiers; on the control loop.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/control/control.h"

/* conf(arg): the configuration in force, good until the next turn. */
typedef const struct conf *mail_auth_verbs_conf_fn(void *arg);
struct mail_auth_verbs {
	mail_auth_verbs_conf_fn *conf;
	void *arg;
};
/* verbs must live as long as the control. */
void mail_auth_verbs_register(struct control *control, struct mail_auth_verbs *verbs);
