/*
 * Access rules: who may connect. A level (listener, service, the whole program) is a list of rules; each allows or denies an
 * address, a range or a network. Within a level the rule with the lowest priority number that fits decides; of several with the same
 * number the one that names the fewest addresses, and of equals the one that denies. A level without a rule that fits leaves
 * the question to the next one; where none decides, the peer is let in. Constant after making; any thread.
 */
#pragma once

#include "common/base/buf.h"
#include "common/net/addr.h"

/* Rules of a level. */
#define ACCESS_RULES_MOST 1000
/* Priority of a rule that names none. */
#define ACCESS_PRIORITY 100

struct access_rules;

enum access_answer {
	ACCESS_NONE, /* no rule of this level fits */
	ACCESS_ALLOW,
	ACCESS_DENY
};

/*
 * Rules from texts `[PRIORITY] allow|deny WHAT`; WHAT is an address, FROM-TO, a network (192.0.2.0/24), `any`, or `unix` (peers
 * on unix sockets). ERR_SYNTAX or ERR_TOO_BIG: why has the text of the rule and the reason.
 */
MUST_CHECK int access_rules_new(
	const char *const *texts, size_t count, struct buf *why, struct access_rules **rules_out);
void access_rules_free(struct access_rules **rules);
/* rules may be NULL: no rules. IPv4-mapped addresses count as IPv4. */
enum access_answer access_rules_ask(const struct access_rules *rules, const struct addr *peer);
/* Asks the levels in order. */
bool access_is_allowed(const struct access_rules *const *levels, size_t count, const struct addr *peer);
