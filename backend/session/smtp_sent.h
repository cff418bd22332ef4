/*
 * A copy of what a user has submitted, for his mailbox with the special use \Sent: octets come as the body does, and are stored after the
 * message was accepted. A copy that cannot be stored is a WARN line and nothing more: the message is on its way. One loop.
 */
#pragma once

#include "backend/store_work/store_work.h"
#include "common/net/loop.h"

struct smtp_sent;
struct smtp_sent *smtp_sent_new(void);
void smtp_sent_free(struct smtp_sent **sent);
void smtp_sent_add(struct smtp_sent *sent, struct slice bytes);
/* Takes the copy; the rest goes by itself. An account without such a mailbox gets none. */
void smtp_sent_store(struct smtp_sent **sent_take, struct store_work *work, struct loop *loop,
	const struct store_account *account);
