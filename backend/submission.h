/*
 * What the configuration says of mail that users send by this back-end: sections `submission` and `send-limit`, and of section `smtp` what
 * the back-end alone has. Also the keeping of what they have sent over a restart, and the verbs about it.
 */
#pragma once

#include "backend/session/smtp_in.h"
#include "common/conf/conf.h"
#include "common/net/addr.h"

struct backend;

extern const struct conf_key submission_keys[];
#define SUBMISSION_SECTIONS                                                                                  \
	{"submission", CONF_RELOAD, NULL,                                                                    \
		"Mail from users who have logged in: what they may send, and what is done to it"},           \
	{                                                                                                    \
		"send-limit", CONF_TITLED | CONF_RELOAD, NULL,                                               \
			"Other limits than those of section `submission`, for the accounts, classes or "     \
			"domains that it names"                                                              \
	}
/* For the program's check(). */
void submission_check(struct conf *conf);

/* One section `send-limit`. Views into the configuration. */
struct submission_limit {
	const char *const *accounts, *const *classes, *const *domains; /* NULL-ended */
	struct send_allowance allowance;
};

struct submission {
	enum smtp_in_sender sender_check;
	bool takes_null_sender, takes_guests, keeps_sent, smtp_logs_in;
	struct smtp_complete_options complete;
	struct send_allowance allowance;
	struct submission_limit *limits;
	size_t limit_count;
	struct addr_net *relay;
	size_t relay_count;
	const char *const *cluster_domains;
};
/* Views of conf. */
void submission_read(const struct conf *conf, struct submission *submission_out);
void submission_deinit(struct submission *submission);

bool submission_may_relay(const struct submission *submission, const struct addr *peer);
bool submission_is_cluster_domain(const struct submission *submission, struct slice domain);
/* By the first section that names the account; that names its class; that names its domain; by section `submission`. account NULL: a guest,
 * user. Any thread. */
void submission_allowance(const struct submission *submission, struct store *store,
	const struct store_account *account, const char *user, struct send_allowance *allowance_out);

/* What was counted before, and from then on a save every minute. Main loop; b->admin.store is open. */
void submission_start(struct backend *b);
/* The last save. Main thread. */
void submission_stop(struct backend *b);
/* "submission list", "submission show", "submission clear". */
void submission_register(struct backend *b);
