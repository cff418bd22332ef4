/*
 * Filters in the content stage (common/front/smtp_content.h): each sees the message with the edits of those before it, and what it edits
 * counts only when it lets the message pass.
 *
 * A session that has had its filters from the beginning brings them (milter_watch.h); for one that has not (it began before they
 * were configured) they are told everything at the end.
 */
#pragma once

#include "common/front/milter_chain.h"
#include "common/front/smtp_content.h"

struct smtp_policy;

extern const struct smtp_stage milter_stage;
/* The filters of the stage in this policy; NULL: there are none. View. */
struct milters *milter_stage_milters(const struct smtp_policy *policy);
/* What filters are told of a session. Views of the front, good until it handles the next command. */
void milter_stage_facts(struct smtp_front *front, struct milter_facts *facts_out);
