/*
 * Several filters in order, for one SMTP session (common/front/milter.h for each): every question goes to one after the other, and the
 * first answer that is not "go on" is the answer. On the session's loop; rules as there.
 */
#pragma once

#include "common/front/milters.h"

struct milter_chain;
/* These, of the set, which is referenced; at most MILTERS_MOST. NULL: none. */
struct milter_chain *milter_chain_new(struct milters *milters, const struct milter_settings *const *settings,
	size_t count, struct loop *loop);
/* At any time. Accepts NULL. */
void milter_chain_free(struct milter_chain **chain);

enum milter_event_kind {
	MILTER_EVENT_CONNECT,
	MILTER_EVENT_HELO,
	MILTER_EVENT_MAIL,
	MILTER_EVENT_RCPT,
	MILTER_EVENT_DATA,
	MILTER_EVENT_UNKNOWN
};
/* One step of the dialogue. It, and what it names, stays until the answer. */
struct milter_event {
	enum milter_event_kind kind;
	struct slice path;   /* of MAIL and RCPT, without brackets; UNKNOWN: the line */
	struct slice params; /* of MAIL and RCPT */
};
void milter_chain_ask(struct milter_chain *c, const struct milter_event *event,
	const struct milter_facts *facts, milter_fn *fn, void *arg);

/*
 * The message, to each in order. before is called before a filter sees it (i: its number), so that the owner can show it with the edits
 * of those before it; message and before as for milter_message().
 */
typedef void milter_chain_before_fn(void *arg, size_t i);
void milter_chain_message(struct milter_chain *c, const struct milter_facts *facts,
	const struct milter_message *message, milter_chain_before_fn *before, milter_fn *fn, void *arg);
/* As milter_abort() of each. */
void milter_chain_abort(struct milter_chain *c);
