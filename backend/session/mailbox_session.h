/* What the operator is told of a session of IMAP or POP3; views, for the length of a call on the session's loop. */
#pragma once

#include <stdint.h>

struct mailbox_session_info {
	uint64_t number; /* of this loop, later ones have greater ones and come later */
	const char *session;
	const char *user;
	unsigned slot; /* his account, whatever name it has now */
	uint32_t account;
	const char *client; /* address as text */
	const char *state;
	uint64_t since_ms; /* wall clock */
};
