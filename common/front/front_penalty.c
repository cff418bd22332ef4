/* Keys, verbs, and the normal form of a name before its penalty is looked up. */
#include "common/front/front_penalty.h"

#include <stdlib.h>

#include "common/auth/auth_name.h"
#include "common/base/mem.h"

#define NAME_ARENA_MOST (8 * 1024)
/* Sets of records that a listing looks at in one turn of the loop, and rows that it writes at most. */
#define SETS_A_TURN 4096
#define ROWS_A_TURN 512

const struct conf_key front_penalty_keys[] = {
	{"limits", "penalty-delay", CONF_DURATION, CONF_RELOAD, "2s", 0, 60000, NULL,
		"How long a login waits before it is decided, after more failures of its address or user "
		"than "
		"`penalty-free`; doubles with each further one; 0: no penalties across sessions",
		NULL},
	{"limits", "penalty-most", CONF_DURATION, CONF_RELOAD, "15s", 100, 60000, NULL,
		"The longest that a login waits for failures before it", NULL},
	{"limits", "penalty-free", CONF_INT, CONF_RELOAD, "5", 0, 40, NULL,
		"Failures of an address (IPv6: of its /64), or to a user, that cost nothing", NULL},
	{"limits", "penalty-decay", CONF_DURATION, CONF_RELOAD, "5m", 1000, 86400000, NULL,
		"Time after which one failure is forgotten", NULL},
	{"limits", "penalty-waiting", CONF_INT, CONF_RELOAD, "20", 1, 10000, NULL,
		"Logins that wait at a time for one address; further ones get a temporary error at once",
		NULL},
	{"limits", "penalty-entries", CONF_INT, 0, "20000", 1000, 10000000, NULL,
		"Most addresses, and most users, whose failures are remembered", NULL},
	{"limits", "known-good", CONF_DURATION, CONF_RELOAD, "30d", 0, 31536000000, NULL,
		"How long an address from which a user has logged in is known good: he never waits there; 0: "
		"none "
		"is",
		NULL},
	{"limits", "known-good-entries", CONF_INT, 0, "100000", 1000, 100000000, NULL,
		"Most users whose known good addresses are remembered, up to 8 of each", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static struct penalty_limits limits_of(const struct conf *conf)
{
	return (struct penalty_limits){
		.delay_ms = conf_get_duration(conf, "limits", NULL, "penalty-delay"),
		.most_ms = conf_get_duration(conf, "limits", NULL, "penalty-most"),
		.free = (unsigned)conf_get_int(conf, "limits", NULL, "penalty-free"),
		.decay_ms = conf_get_duration(conf, "limits", NULL, "penalty-decay"),
		.waiting = (unsigned)conf_get_int(conf, "limits", NULL, "penalty-waiting"),
		.known_ms = conf_get_duration(conf, "limits", NULL, "known-good"),
	};
}

struct penalty *front_penalty_new(const struct conf *conf)
{
	const struct penalty_limits limits = limits_of(conf);

	return penalty_new(conf_get_int(conf, "limits", NULL, "penalty-entries"),
		conf_get_int(conf, "limits", NULL, "known-good-entries"), &limits);
}

void front_penalty_reload(struct penalty *penalty, const struct conf *conf)
{
	const struct penalty_limits limits = limits_of(conf);

	penalty_set_limits(penalty, &limits);
}

static bool is_plain(struct slice s)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789-._+";

	for (size_t i = 0; i < s.len; i++)
		if (!s.p[i] || !strchr(plain, s.p[i]))
			return false;
	return s.len > 0;
}

/* Most names are in their normal form already, and to see that costs less than to make it. */
static bool is_normal(struct slice name)
{
	ptrdiff_t at = slice_find(name, '@');
	struct slice domain = slice_from(name, at < 0 ? 0 : (size_t)at + 1);

	return at > 0 && domain.len && domain.p[domain.len - 1] != '.' && is_plain(domain) &&
	       is_plain(slice_sub(name, 0, (size_t)at));
}

int front_penalty_begin(struct penalty *penalty, const struct addr *client, struct slice name,
	const char *domain, struct penalty_attempt *attempt, uint64_t *wait_ms_out)
{
	struct arena arena;
	struct slice normal;
	int err;

	if (!penalty || is_normal(name))
		return penalty_begin(penalty, client, name, attempt, wait_ms_out);
	arena_init(&arena, NAME_ARENA_MOST);
	if (auth_name_normalise(&arena, name, slice_str(domain), &normal) < 0)
		normal = name;
	err = penalty_begin(penalty, client, normal, attempt, wait_ms_out);
	arena_deinit(&arena);
	return err;
}

/* ---- verbs ---- */

struct listing {
	struct control_request *request;
	struct penalty *penalty;
	size_t at;
	size_t rows, rows_before;
	char *wanted; /* NULL: all */
};

static void list_record(void *arg, const struct penalty_record *record)
{
	struct listing *l = arg;
	struct control_request *r = l->request;

	if (l->wanted && strcmp(l->wanted, record->name) != 0)
		return;
	l->rows++;
	control_row(r);
	control_add_str(r, "kind", record->is_user ? "user" : "address");
	control_add_str(r, "name", record->name);
	control_add_int(r, "failures", record->failures);
	control_add_int(r, "delay_ms", (int64_t)record->delay_ms);
	control_add_int(r, "waiting", record->waiting);
	control_add_int(r, "last_failure_s", (int64_t)(record->since_ms / 1000));
}

static void list_step(void *arg)
{
	struct listing *l = arg;
	struct control_request *r = l->request;
	bool more = true;

	l->rows_before = l->rows;
	for (size_t i = 0; more && i < SETS_A_TURN && l->rows - l->rows_before < ROWS_A_TURN; i++)
		more = penalty_each(l->penalty, &l->at, list_record, l);
	if (more && !control_is_gone(r)) {
		control_when_room(r, list_step, l);
		return;
	}
	control_result(r);
	control_add_int(r, "records", (int64_t)l->rows);
	control_done(r);
	free(l->wanted);
	free(l);
}

/* The name that a record has for what an operator writes: an address's prefix, or a user in normal form. False: no such name. */
static bool normal_name(const char *text, struct addr *addr_out, char *name, size_t size)
{
	struct arena arena;
	struct slice normal;
	int err;

	if (addr_parse(slice_sub(slice_str(text), 0, strcspn(text, "/")), 0, addr_out) == 0 &&
		text[0] != '/') {
		penalty_address_name(addr_out, name, size);
		return true;
	}
	*addr_out = (struct addr){0};
	arena_init(&arena, NAME_ARENA_MOST);
	err = auth_name_normalise(&arena, slice_str(text), SLICE_LIT(""), &normal);
	if (err == 0)
		snprintf(name, size, "%.*s", SLICE_ARG(normal));
	arena_deinit(&arena);
	return err == 0;
}

static void list(void *arg, struct control_request *r)
{
	struct listing *l;
	char name[AUTH_NAME_MOST + 1] = "";
	struct addr addr;

	if (control_arg_count(r) && !normal_name(control_arg(r, 0), &addr, name, sizeof(name))) {
		control_fail(r, ERR_SYNTAX, "this is neither an address nor a user's name");
		return;
	}
	l = xcalloc(1, sizeof(*l));
	l->request = r;
	l->penalty = arg;
	if (name[0])
		l->wanted = xmemdup0(name, strnlen(name, PENALTY_NAME_MOST));
	list_step(l);
}

static void clear(void *arg, struct control_request *r)
{
	struct penalty *penalty = arg;
	char name[AUTH_NAME_MOST + 1];
	struct addr addr;
	int err;

	if (!control_arg_count(r)) {
		control_add_int(r, "cleared", (int64_t)penalty_clear_all(penalty));
		control_done(r);
		return;
	}
	if (!normal_name(control_arg(r, 0), &addr, name, sizeof(name))) {
		control_fail(r, ERR_SYNTAX, "this is neither an address nor a user's name");
		return;
	}
	err = addr.len ? penalty_clear_address(penalty, &addr) : penalty_clear_user(penalty, slice_str(name));
	if (err) {
		control_fail(r, err, "%s has no penalty", name);
		return;
	}
	control_add_int(r, "cleared", 1);
	control_done(r);
}

static const struct control_verb verbs[] = {
	{"penalty list", "[ADDRESS | USER]",
		"Addresses and users with failed logins, and how long their next login waits", list, 0, 1,
		NULL, 0},
	{"penalty clear", "[ADDRESS | USER]", "Forgets the failed logins of one address or user, or of all",
		clear, 0, 1, NULL, 0},
};

void front_penalty_register(struct control *control, struct penalty *penalty)
{
	control_register(control, verbs, ARRAY_LEN(verbs), penalty);
}
