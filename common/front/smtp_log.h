/*
 * The line that an operator greps: one for each message and recipient, the same from every program and phase, keys in this order.
 *
 *	smtp: ID: from=<a@b> to=<c@d> relay=b1 delay=0.001/0.002/0.010/0.004 tls=TLSv1.3 dsn=2.0.0 status=sent (text)
 *
 * delay, in seconds: from MAIL to DATA, to 354, to the end of data, to the answer; for recipients that are refused the first alone has
 * begun. Texts are the client's and peers': controls are taken out. On the session's loop.
 */
#pragma once

#include "common/front/smtp_front.h"

enum smtp_log_end {
	SMTP_LOG_SENT,     /* 2yz: it is where it belongs */
	SMTP_LOG_ACCEPTED, /* 2yz: it waits for its way on */
	SMTP_LOG_REFUSED   /* 4yz, 5yz */
};

/* relay: where it went; "none". status follows from the answer's code: sent or accepted as end says, deferred, rejected. */
void smtp_log_recipient(struct smtp_front *front, struct slice to, const char *relay,
	const struct smtp_answer *answer, enum smtp_log_end end);
/* A MAIL that was refused: to=<> stands for all. */
void smtp_log_sender(struct smtp_front *front, struct slice from, const struct smtp_answer *answer);
