/*
 * Limits are looked for from the closest to the widest: account, class, domain, everybody. What was sent is in memory (send_limits.h) and
 * in the file send-limits of the store's folder, which is written each minute and at the end: a crash gives back at most a minute's sending.
 */
#include "backend/submission.h"

#include <stdlib.h>

#include "backend/backend.h"
#include "backend/store/store_account.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/front/domain_keys.h"
#include "common/proto/address.h"

#define SAVE_MS 60000
#define CLASS_ARENA_MOST ((size_t)64 * 1024)

#define NUMBERS(section)                                                                                     \
	{section, "messages-per-hour", CONF_INT, CONF_RELOAD, "0", 0, 1000000000, NULL,                      \
		"Messages that a user may send within an hour; 0: any number", NULL},                        \
		{section, "messages-per-day", CONF_INT, CONF_RELOAD, "0", 0, 1000000000, NULL,               \
			"Messages within a day; 0: any number", NULL},                                       \
		{section, "recipients-per-hour", CONF_INT, CONF_RELOAD, "0", 0, 1000000000, NULL,            \
			"Recipients of these within an hour; 0: any number", NULL},                          \
	{                                                                                                    \
		section, "recipients-per-day", CONF_INT, CONF_RELOAD, "0", 0, 1000000000, NULL,              \
			"Recipients within a day; 0: any number", NULL                                       \
	}

const struct conf_key submission_keys[] = {
	{"smtp", "login", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Service smtp: users may log in, and then send to anywhere as with submission", NULL},
	{"smtp", "relay-networks", CONF_NETWORKS, CONF_RELOAD, "", 0, 0, NULL,
		"Service smtp: networks that may send to anywhere without logging in", NULL},
	{"submission", "sender-check", CONF_ENUM, CONF_RELOAD, "own", 0, 0, "own domain off",
		"The sender must be: own, an address of the user's account; domain, one of its domain; off: "
		"anything",
		NULL},
	{"submission", "null-sender", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Users may send with the null sender, as read receipts do", NULL},
	{"submission", "from-check", CONF_ENUM, CONF_RELOAD, "off", 0, 0, "off sender refuse",
		"A field From that is not the user's own by sender-check's measure: off, it stays; sender, a "
		"field Sender "
		"names the user; refuse, the message is refused",
		NULL},
	{"submission", "complete-header", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Add Date and Message-ID where they are missing", NULL},
	{"submission", "remove-bcc", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL, "Take Bcc fields away", NULL},
	{"submission", "sent-copy", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL,
		"Store a copy in the user's mailbox with the special use \\Sent. For clients that do it "
		"themselves: no",
		NULL},
	{"submission", "guests", CONF_BOOL, CONF_RELOAD, "yes", 0, 0, NULL,
		"Users without an account here may send, if a trusted proxy vouches for them (its "
		"submission-route)",
		NULL},
	{"submission", "cluster-domains", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Domains whose accounts live on several back-ends: a recipient who is not here goes to the "
		"queue, and by its "
		"routes to the proxies, instead of being refused as unknown",
		NULL},
	NUMBERS("submission"),
	{"send-limit", "accounts", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL, "Addresses of accounts", NULL},
	{"send-limit", "classes", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL, "Classes of accounts", NULL},
	{"send-limit", "domains", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL, "Domains", NULL},
	NUMBERS("send-limit"),
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static void check_domains(struct conf *conf, const char *section, const char *title)
{
	const char *key = title ? "domains" : "cluster-domains";
	size_t count;
	const char *const *list = conf_get_list(conf, section, title, key, &count);

	domain_keys_check(conf, section, title, key, list, count);
}

static void check_accounts(struct conf *conf, const char *title)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "send-limit", title, "accounts", &count);
	struct arena arena;

	arena_init(&arena, CLASS_ARENA_MOST);
	for (size_t i = 0; i < count; i++) {
		struct address_name name;

		arena_reset(&arena);
		if (!strchr(list[i], '@') || address_normalise_whole(&arena, slice_str(list[i]), &name))
			conf_error(conf, "send-limit", title, "accounts",
				"\"%s\" is no address, such as news@example.com", list[i]);
	}
	arena_deinit(&arena);
}

void submission_check(struct conf *conf)
{
	size_t count;
	const char *const *titles = conf_titles(conf, "send-limit", &count);

	check_domains(conf, "submission", NULL);
	for (size_t i = 0; i < count; i++) {
		size_t accounts, classes, domains;

		(void)conf_get_list(conf, "send-limit", titles[i], "accounts", &accounts);
		(void)conf_get_list(conf, "send-limit", titles[i], "classes", &classes);
		(void)conf_get_list(conf, "send-limit", titles[i], "domains", &domains);
		if (!accounts && !classes && !domains)
			conf_error(conf, "send-limit", titles[i], "accounts",
				"neither accounts nor classes nor domains are named: this is for nobody");
		check_domains(conf, "send-limit", titles[i]);
		check_accounts(conf, titles[i]);
	}
}

/* ---- the snapshot ---- */

static struct send_allowance read_allowance(const struct conf *conf, const char *section, const char *title)
{
	return (struct send_allowance){
		.messages_hour = (uint32_t)conf_get_int(conf, section, title, "messages-per-hour"),
		.messages_day = (uint32_t)conf_get_int(conf, section, title, "messages-per-day"),
		.recipients_hour = (uint32_t)conf_get_int(conf, section, title, "recipients-per-hour"),
		.recipients_day = (uint32_t)conf_get_int(conf, section, title, "recipients-per-day"),
	};
}

static void read_limits(const struct conf *conf, struct submission *s)
{
	const char *const *titles = conf_titles(conf, "send-limit", &s->limit_count);
	size_t n;

	s->limits = xcalloc(s->limit_count + 1, sizeof(*s->limits));
	for (size_t i = 0; i < s->limit_count; i++)
		s->limits[i] = (struct submission_limit){
			.accounts = conf_get_list(conf, "send-limit", titles[i], "accounts", &n),
			.classes = conf_get_list(conf, "send-limit", titles[i], "classes", &n),
			.domains = conf_get_list(conf, "send-limit", titles[i], "domains", &n),
			.allowance = read_allowance(conf, "send-limit", titles[i]),
		};
}

static void read_relay(const struct conf *conf, struct submission *s)
{
	size_t count;
	const char *const *list = conf_get_list(conf, "smtp", NULL, "relay-networks", &count);

	s->relay = xcalloc(count + 1, sizeof(*s->relay));
	for (size_t i = 0; i < count; i++)
		if (addr_net_parse(slice_str(list[i]), &s->relay[s->relay_count]) == 0)
			s->relay_count++;
}

void submission_read(const struct conf *conf, struct submission *s)
{
	size_t n;

	*s = (struct submission){
		.sender_check = (enum smtp_in_sender)conf_get_enum(conf, "submission", NULL, "sender-check"),
		.takes_null_sender = conf_get_bool(conf, "submission", NULL, "null-sender"),
		.takes_guests = conf_get_bool(conf, "submission", NULL, "guests"),
		.keeps_sent = conf_get_bool(conf, "submission", NULL, "sent-copy"),
		.smtp_logs_in = conf_get_bool(conf, "smtp", NULL, "login"),
		.complete = {.adds_missing = conf_get_bool(conf, "submission", NULL, "complete-header"),
			.removes_bcc = conf_get_bool(conf, "submission", NULL, "remove-bcc"),
			.from = (enum smtp_complete_from)conf_get_enum(
				conf, "submission", NULL, "from-check")},
		.allowance = read_allowance(conf, "submission", NULL),
		.cluster_domains = conf_get_list(conf, "submission", NULL, "cluster-domains", &n),
	};
	read_limits(conf, s);
	read_relay(conf, s);
}

void submission_deinit(struct submission *s)
{
	free(s->limits);
	free(s->relay);
	s->limits = NULL;
	s->relay = NULL;
}

bool submission_may_relay(const struct submission *s, const struct addr *peer)
{
	for (size_t i = 0; i < s->relay_count; i++) {
		if (addr_net_has(&s->relay[i], peer))
			return true;
	}
	return false;
}

static bool has(const char *const *list, const char *word)
{
	for (; *list; list++) {
		if (strcasecmp(*list, word) == 0)
			return true;
	}
	return false;
}

bool submission_is_cluster_domain(const struct submission *s, struct slice domain)
{
	for (const char *const *at = s->cluster_domains; *at; at++) {
		if (slice_is_str_nocase(domain, *at))
			return true;
	}
	return false;
}

void submission_allowance(const struct submission *s, struct store *store,
	const struct store_account *account, const char *user, struct send_allowance *allowance_out)
{
	struct store_account_origin origin = {0};
	const char *name = account ? account->address : user, *at = strrchr(name, '@');

	*allowance_out = s->allowance;
	if (!s->limit_count)
		return;
	if (!account || store_account_explain(store, account->slot, account->id, &origin))
		origin.class[0] = '\0';
	for (unsigned level = 0; level < 3; level++) {
		for (size_t i = 0; i < s->limit_count; i++) {
			const struct submission_limit *l = &s->limits[i];

			if ((level == 0 && has(l->accounts, name)) ||
				(level == 1 && origin.class[0] && has(l->classes, origin.class)) ||
				(level == 2 && at && has(l->domains, at + 1))) {
				*allowance_out = l->allowance;
				return;
			}
		}
	}
}

/* ---- over a restart ---- */

static void file_of(const struct backend *b, struct buf *path)
{
	buf_printf(path, "%s/send-limits", conf_get_string(b->config->conf, "", NULL, "store"));
}

static void save(struct backend *b)
{
	struct buf path = {0};
	int err;

	file_of(b, &path);
	err = send_limits_save(b->send_limits, buf_str_view(&path), clock_wall_s());
	if (err)
		log_error("backend", "what users have sent cannot be written to %s: %s", buf_str_view(&path),
			error_text(err));
	buf_deinit(&path);
}

static void on_timer(void *arg)
{
	struct backend *b = arg;

	save(b);
	timer_set(&b->send_limits_timer, b->admin.loop, SAVE_MS);
}

void submission_start(struct backend *b)
{
	struct buf path = {0};
	int err;

	file_of(b, &path);
	err = send_limits_load(b->send_limits, buf_str_view(&path), clock_wall_s());
	if (err)
		log_error("backend", "what users have sent cannot all be read from %s: %s",
			buf_str_view(&path), error_text(err));
	buf_deinit(&path);
	timer_init(&b->send_limits_timer, on_timer, b);
	timer_set(&b->send_limits_timer, b->admin.loop, SAVE_MS);
}

void submission_stop(struct backend *b)
{
	timer_stop(&b->send_limits_timer);
	save(b);
}

/* ---- verbs ---- */

static void add_row(void *arg, const char *user, const struct send_counts *c)
{
	struct control_request *r = arg;

	control_row(r);
	control_add_str(r, "user", user);
	control_add_int(r, "messages_hour", c->messages_hour);
	control_add_int(r, "messages_day", c->messages_day);
	control_add_int(r, "recipients_hour", c->recipients_hour);
	control_add_int(r, "recipients_day", c->recipients_day);
}

static void do_list(void *arg, struct control_request *request)
{
	struct backend *b = arg;

	send_limits_each(b->send_limits, clock_wall_s(), add_row, request);
	control_done(request);
}

static void do_show(void *arg, struct control_request *request)
{
	struct backend *b = arg;
	const char *user = control_arg(request, 0);
	struct send_allowance a;
	struct send_counts c;
	struct store_account account;
	int err = store_find_account(b->admin.store, slice_str(user), &account);

	if (!err)
		user = account.address;
	send_limits_counts(b->send_limits, slice_str(user), clock_wall_s(), &c);
	if (err && !c.last) {
		control_fail(
			request, ERR_NOT_FOUND, "no such account, and nobody of that name has sent anything");
		return;
	}
	submission_allowance(&b->config->submission, b->admin.store, err ? NULL : &account, user, &a);
	control_add_str(request, "user", user);
	control_add_int(request, "messages_hour", c.messages_hour);
	control_add_int(request, "messages_hour_limit", a.messages_hour);
	control_add_int(request, "messages_day", c.messages_day);
	control_add_int(request, "messages_day_limit", a.messages_day);
	control_add_int(request, "recipients_hour", c.recipients_hour);
	control_add_int(request, "recipients_hour_limit", a.recipients_hour);
	control_add_int(request, "recipients_day", c.recipients_day);
	control_add_int(request, "recipients_day_limit", a.recipients_day);
	control_done(request);
}

static void do_clear(void *arg, struct control_request *request)
{
	struct backend *b = arg;
	const char *user = control_arg(request, 0);

	if (!send_limits_clear(b->send_limits, slice_str(user)) && *user)
		control_fail(request, ERR_NOT_FOUND, "nobody of that name has sent anything");
	else
		control_done(request);
}

static const struct control_verb verbs[] = {
	{"submission list", "", "Who has sent how much within an hour and a day", do_list, 0, 0, NULL, 0},
	{"submission show", "USER", "What one user has sent, and what he may", do_show, 1, 1, NULL, 0},
	{"submission clear", "[USER]", "Forget what a user, or everybody, has sent: the limits begin anew",
		do_clear, 0, 1, NULL, 0},
};

void submission_register(struct backend *b)
{
	control_register(b->admin.control, verbs, ARRAY_LEN(verbs), b);
}
