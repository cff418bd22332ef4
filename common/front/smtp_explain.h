/*
 * The verb `smtp explain` of both programs: runs the acceptance rules of a service for a message that nobody sends, with real questions to
 * the DNS, and shows which rule decides in each phase, and why. Nothing is counted, stored or sent.
 */
#pragma once

#include "common/control/control.h"
#include "common/front/smtp_policy.h"

/* The policy in force of that service, counted; NULL: there is no such service. On the control loop. */
typedef struct smtp_policy *smtp_explain_policy_fn(void *arg, const char *service);
/* Embedded in its owner, who outlives the control. */
struct smtp_explain {
	smtp_explain_policy_fn *find;
	void *arg;
};
void smtp_explain_register(struct control *control, struct smtp_explain *explain);
