/*
 * A question travels to every loop and back to the main loop: struct ask, with one struct part for each loop
 * that nobody else touches while it is away. The last part to come home gives the answer.
 */
#include "backend/sessions.h"

#include <stdlib.h>

#include "backend/session/lmtp.h"
#include "common/base/mem.h"

#define KICK_TEXT "Ended by the operator."
#define DRAIN_TEXT "The server goes down for a moment."

struct row {
	struct row *next;
	const char *service;
	char *session, *user, *client, *state;
	uint64_t since_ms;
};

struct part {
	struct ask *ask;
	struct loop *loop;
	struct row *rows;
	struct row **last;
	const char *service; /* of the sessions being told */
};

struct ask {
	struct backend *backend;
	struct control_request *request;
	char *kick; /* user or session id; NULL: list only */
	unsigned waiting;
	struct part parts[];
};

static bool take(struct part *part, const char *session, const char *user, const char *client,
	const char *state, uint64_t since_ms)
{
	const char *kick = part->ask->kick;
	struct row *row;

	if (kick && strcmp(kick, session) != 0 && strcmp(kick, user) != 0)
		return false;
	row = xcalloc(1, sizeof(*row));
	*row = (struct row){.service = part->service,
		.session = xstrdup(session),
		.user = xstrdup(user),
		.client = xstrdup(client),
		.state = xstrdup(state),
		.since_ms = since_ms};
	*part->last = row;
	part->last = &row->next;
	return kick != NULL;
}

static bool take_imap(void *arg, const struct imap_session_info *i)
{
	return take(arg, i->session, i->user, i->client, i->state, i->since_ms);
}

static bool take_pop3(void *arg, const struct pop3_session_info *i)
{
	return take(arg, i->session, i->user, i->client, i->state, i->since_ms);
}

static size_t show(struct control_request *r, struct part *part)
{
	size_t count = 0;

	while (part->rows) {
		struct row *row = part->rows;

		part->rows = row->next;
		control_row(r);
		control_add_str(r, "session", row->session);
		control_add_str(r, "user", row->user);
		control_add_str(r, "service", row->service);
		control_add_str(r, "client", row->client);
		control_add_str(r, "state", row->state);
		control_add_int(r, "since", (int64_t)(row->since_ms / 1000));
		free(row->session);
		free(row->user);
		free(row->client);
		free(row->state);
		free(row);
		count++;
	}
	return count;
}

/* On the main loop. */
static void come_home(void *arg)
{
	struct part *part = arg;
	struct ask *ask = part->ask;
	size_t count = 0;

	if (--ask->waiting)
		return;
	for (unsigned i = 0; i < loop_group_count(ask->backend->group); i++)
		count += show(ask->request, &ask->parts[i]);
	control_result(ask->request);
	control_add_int(ask->request, "sessions", (int64_t)count);
	if (ask->kick && count == 0)
		control_fail(ask->request, ERR_NOT_FOUND, "no session of this user or with this id");
	else
		control_done(ask->request);
	free(ask->kick);
	free(ask);
}

/* On the part's loop. */
static void go_out(void *arg)
{
	struct part *part = arg;
	struct backend *b = part->ask->backend;

	part->service = "imap";
	imap_service_each(b->imap, part->loop, take_imap, part, KICK_TEXT);
	part->service = "pop3";
	pop3_service_each(b->pop3, part->loop, take_pop3, part, KICK_TEXT);
	loop_post(b->loop, come_home, part);
}

static void ask_all(struct backend *b, struct control_request *r, const char *kick)
{
	unsigned count = loop_group_count(b->group);
	struct ask *ask = xcalloc(1, sizeof(*ask) + count * sizeof(ask->parts[0]));

	ask->backend = b;
	ask->request = r;
	ask->kick = kick ? xstrdup(kick) : NULL;
	ask->waiting = count;
	for (unsigned i = 0; i < count; i++) {
		struct part *part = &ask->parts[i];

		*part = (struct part){.ask = ask, .loop = loop_group_at(b->group, i), .last = &part->rows};
		loop_post(part->loop, go_out, part);
	}
}

static void session_list(void *arg, struct control_request *r)
{
	ask_all(arg, r, NULL);
}

static void session_kick(void *arg, struct control_request *r)
{
	ask_all(arg, r, control_arg(r, 0));
}

static const struct control_verb verbs[] = {
	{"session list", "", "Sessions after login, of IMAP and POP3", session_list, 0, 0, NULL, 0},
	{"session kick", "USER|SESSION", "Ends sessions of a user, or one by its id", session_kick, 1, 1,
		NULL, 0},
};

void sessions_register(struct backend *b)
{
	control_register(b->control, verbs, ARRAY_LEN(verbs), b);
}

/* ---- drain ---- */

struct bye {
	struct backend *backend;
	struct loop *loop;
	bool is_now;
};

static void say_bye(void *arg)
{
	struct bye *bye = arg;

	imap_service_bye(bye->backend->imap, bye->loop, DRAIN_TEXT);
	pop3_service_bye(bye->backend->pop3, bye->loop, DRAIN_TEXT);
	lmtp_close_all(bye->loop, bye->is_now);
	free(bye);
}

void sessions_bye(struct backend *b, bool is_now)
{
	for (unsigned i = 0; i < loop_group_count(b->group); i++) {
		struct bye *bye = xcalloc(1, sizeof(*bye));

		*bye = (struct bye){.backend = b, .loop = loop_group_at(b->group, i), .is_now = is_now};
		loop_post(bye->loop, say_bye, bye);
	}
}

unsigned sessions_count(const struct backend *b)
{
	return imap_service_count(b->imap) + pop3_service_count(b->pop3) + lmtp_count();
}
