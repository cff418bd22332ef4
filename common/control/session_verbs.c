/*
 * One struct ask is one question. It is on one loop at a time (on the control loop while it answers), for one kind of sessions, and
 * remembers the number behind which it goes on.
 */
#include "common/control/session_verbs.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/base/metrics.h"

/* Of one turn: sessions that are looked at, and rows. */
#define LOOK_MOST 2000
#define ROWS_MOST 200

struct session_walk {
	const char *user, *backend, *service, *name; /* name: a user or an id */
	const struct addr_net *peer;
	bool is_kick;
	uint64_t after; /* the number of the last one looked at */
	unsigned looked, rows;
	bool is_full;    /* this turn's measure: there may be more */
	struct buf text; /* rows: id, user, service, client, back-end, state, since; a NUL behind each */
	uint64_t count;
};

struct ask {
	const struct session_kinds *kinds;
	struct control_request *request;
	struct loop *home;
	char *user, *backend, *service, *name;
	struct addr_net peer;
	struct session_walk walk;
	size_t kind;
	unsigned loop;
};

static const char *const columns[] = {"session", "user", "service", "client", "backend", "state", "since"};
#define BACKEND_COLUMN 4
#define SINCE_COLUMN 6

/* ---- on the sessions' loop ---- */

bool session_walk_wants(const struct session_walk *walk, uint64_t number)
{
	return !walk->is_full && number > walk->after;
}

static bool is_peer(const struct session_walk *walk, const struct session_info *info)
{
	struct addr addr;

	if (!walk->peer)
		return true;
	if (info->peer)
		return addr_net_has(walk->peer, info->peer);
	return addr_parse(slice_str(info->client), 0, &addr) == 0 && addr_net_has(walk->peer, &addr);
}

static bool fits(const struct session_walk *walk, const struct session_info *info)
{
	return (!walk->user || strcasecmp(walk->user, info->user) == 0) &&
	       (!walk->service || strcmp(walk->service, info->service) == 0) &&
	       (!walk->backend || (info->backend && strcmp(walk->backend, info->backend) == 0)) &&
	       (!walk->name || strcmp(walk->name, info->id) == 0 ||
		       strcasecmp(walk->name, info->user) == 0) &&
	       is_peer(walk, info);
}

static void add_row(struct session_walk *walk, const struct session_info *info)
{
	char text[ADDR_TEXT_MAX];
	const char *const words[] = {info->id, info->user, info->service,
		info->peer ? addr_host(info->peer, text) : info->client, info->backend ? info->backend : "",
		info->state};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		buf_add(&walk->text, words[i], strlen(words[i]) + 1);
	buf_printf(&walk->text, "%lld%c", (long long)info->since, '\0');
	walk->rows++;
}

bool session_walk_take(struct session_walk *walk, const struct session_info *info)
{
	bool is_meant;

	if (!session_walk_wants(walk, info->number))
		return false;
	walk->after = info->number;
	is_meant = fits(walk, info);
	if (is_meant) {
		walk->count++;
		if (!walk->is_kick)
			add_row(walk, info);
	}
	walk->is_full = ++walk->looked >= LOOK_MOST || walk->rows >= ROWS_MOST;
	return is_meant && walk->is_kick;
}

/* ---- the question ---- */

static void come_home(void *arg);

static void look(void *arg)
{
	struct ask *ask = arg;
	struct loop *loop = loop_group_at(ask->kinds->group, ask->loop);

	ask->walk.looked = ask->walk.rows = 0;
	ask->walk.is_full = false;
	ask->kinds->each[ask->kind](ask->kinds->arg, loop, &ask->walk);
	loop_post(ask->home, come_home, ask);
}

static void go_out(void *arg)
{
	struct ask *ask = arg;

	loop_post(loop_group_at(ask->kinds->group, ask->loop), look, ask);
}

static const char *next_text(struct slice *rest)
{
	const char *text = rest->p;

	*rest = slice_from(*rest, strlen(text) + 1);
	return text;
}

static void answer_rows(struct ask *ask)
{
	struct control_request *r = ask->request;
	struct slice rest = buf_view(&ask->walk.text);

	while (rest.len) {
		control_row(r);
		for (size_t i = 0; i < ARRAY_LEN(columns); i++) {
			const char *text = next_text(&rest);

			if (i == SINCE_COLUMN)
				control_add_time(r, columns[i], strtoll(text, NULL, 10));
			else if (i != BACKEND_COLUMN || ask->kinds->has_backends)
				control_add_str(r, columns[i], text);
		}
	}
	buf_clear(&ask->walk.text);
}

static void end(struct ask *ask)
{
	struct control_request *r = ask->request;
	int64_t count = (int64_t)ask->walk.count;

	control_result(r);
	control_add_int(r, ask->walk.is_kick ? "kicked" : "sessions", count);
	if (ask->walk.is_kick && count)
		metric_add(metrics_counter("mailtier_control_sessions_kicked", NULL,
				   "Sessions that an operator has ended"),
			count);
	if (ask->walk.is_kick && ask->name && count == 0)
		control_fail(r, ERR_NOT_FOUND, "no session of this user or with this id");
	else
		control_done(r);
	buf_deinit(&ask->walk.text);
	free(ask->user);
	free(ask->backend);
	free(ask->service);
	free(ask->name);
	free(ask);
}

/* On the control loop: answers what the loop has found, and goes on there, on the next one, or with the next kind. */
static void come_home(void *arg)
{
	struct ask *ask = arg;

	answer_rows(ask);
	if (control_is_gone(ask->request) && !ask->walk.is_kick) {
		end(ask);
		return;
	}
	if (!ask->walk.is_full) {
		ask->walk.after = 0;
		if (++ask->loop == loop_group_count(ask->kinds->group)) {
			ask->loop = 0;
			ask->kind++;
		}
	}
	if (!ask->kinds->each[ask->kind])
		end(ask);
	else
		control_when_room(ask->request, go_out, ask);
}

static char *copy_of(const char *text)
{
	return text ? xstrdup(text) : NULL;
}

static struct ask *ask_new(const struct session_kinds *kinds, struct control_request *r, bool is_kick)
{
	struct ask *ask = xcalloc(1, sizeof(*ask));

	ask->kinds = kinds;
	ask->request = r;
	ask->home = control_request_loop(r);
	ask->walk.is_kick = is_kick;
	return ask;
}

/* From the options of the request; false: it is answered. */
static void ask_by_options(const struct session_kinds *kinds, struct control_request *r, bool is_kick)
{
	const char *peer = control_option(r, "peer", 0);
	struct addr_net net;
	struct ask *ask;

	if (peer && addr_net_parse(slice_str(peer), &net) != 0) {
		control_fail(r, ERR_SYNTAX, "%s is no address or network", peer);
		return;
	}
	ask = ask_new(kinds, r, is_kick);
	ask->user = copy_of(control_option(r, "user", 0));
	ask->service = copy_of(control_option(r, "service", 0));
	ask->backend = copy_of(kinds->has_backends ? control_option(r, "backend", 0) : NULL);
	ask->name = copy_of(control_arg_count(r) ? control_arg(r, 0) : NULL);
	ask->walk.user = ask->user;
	ask->walk.service = ask->service;
	ask->walk.backend = ask->backend;
	ask->walk.name = ask->name;
	if (peer) {
		ask->peer = net;
		ask->walk.peer = &ask->peer;
	}
	go_out(ask);
}

static void run_list(void *arg, struct control_request *r)
{
	ask_by_options(arg, r, false);
}

static void run_kick(void *arg, struct control_request *r)
{
	static const char *const options[] = {"user", "backend", "peer", "service"};
	bool says = control_arg_count(r) > 0;

	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		says |= control_has_option(r, options[i]);
	if (says)
		ask_by_options(arg, r, true);
	else
		control_fail(r, ERR_SYNTAX, "say whom: USER, SESSION or an option");
}

void session_verbs_kick_backend(
	const struct session_kinds *kinds, struct control_request *request, const char *backend)
{
	struct ask *ask = ask_new(kinds, request, true);

	ask->backend = xstrdup(backend);
	ask->walk.backend = ask->backend;
	go_out(ask);
}

#define LIST_DOC "Sessions of clients, those that fit"
#define KICK_DOC "Ends those sessions, without a word where the protocol has none"
#define OPTIONS "[--user USER] [--peer ADDRESS|NETWORK] [--service NAME]"

static const struct control_verb plain[] = {
	{"session list", OPTIONS, LIST_DOC, run_list, 0, 0, "user= peer= service=", 0},
	{"session kick", "[USER|SESSION] " OPTIONS, KICK_DOC, run_kick, 0, 1, "user= peer= service=", 0},
};
static const struct control_verb with_backends[] = {
	{"session list", OPTIONS " [--backend NAME]", LIST_DOC, run_list, 0, 0,
		"user= backend= peer= service=", 0},
	{"session kick", "[USER|SESSION] " OPTIONS " [--backend NAME]", KICK_DOC, run_kick, 0, 1,
		"user= backend= peer= service=", 0},
};

void session_verbs_register(struct control *control, const struct session_kinds *kinds)
{
	control_register(control, kinds->has_backends ? with_backends : plain, ARRAY_LEN(plain),
		(void *)(uintptr_t)kinds);
}
