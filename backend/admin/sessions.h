/*
 * The operator's view of sessions after login, over all loops and protocols: `session list`, `session kick`;
 * and their end at a drain.
 */
#pragma once

#include "backend/admin/admin.h"

void sessions_register(struct admin *admin);
/* Asks all sessions to end after what they are doing; is_now: no transaction of LMTP is waited for. Main
 * thread. */
void sessions_bye(struct admin *admin, bool is_now);
/* An account, a class or a domain has changed: ends the sessions of accounts that are no longer there under this name, or may not log in
 * that way any more. In turns, on the sessions' loops. Main thread. */
void sessions_recheck(struct admin *admin);
/* Closes the connections of clients that have not logged in: the program ends. Main thread. */
void sessions_end_fronts(struct admin *admin);
/* Of IMAP and POP3 after login, and of LMTP. Any thread. */
unsigned sessions_count(const struct admin *admin);
