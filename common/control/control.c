/*
 * The socket and its clients. A client's lines are gathered up to the line end; while one request runs the
 * connection is paused, so that answers never mix.
 */
#include "common/control/control.h"

#include <errno.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/control/control_internal.h"
#include "common/net/inherit.h"

static void on_room(void *arg)
{
	struct control_request *request = arg;
	loop_fn *fn = request->room_fn;

	request->room_fn = NULL;
	fn(request->room_arg);
}

/* Output has gone, or nobody waits for it any more: the verb that waited for room goes on. */
static void give_room(struct control_request *request)
{
	if (request && request->room_fn)
		loop_post(request->loop, on_room, request);
}

static void peer_close(struct control_peer *peer)
{
	if (peer->running)
		peer->running->peer = NULL;
	if (peer->is_full)
		give_room(peer->running);
	timer_stop(&peer->timer);
	list_remove(&peer->link);
	if (peer->line.data)
		secret_wipe(peer->line.data, peer->line.cap);
	buf_deinit(&peer->line);
	conn_close(&peer->conn);
	loop_free_later(peer->control->loop, peer);
}

static void on_slow(void *arg)
{
	peer_close(arg);
}

/* Takes lines out of what has come while no request runs. */
static void peer_advance(struct control_peer *peer)
{
	while (!peer->running) {
		struct slice input = conn_input(peer->conn);
		ptrdiff_t end = slice_find(input, '\n');
		size_t n = end < 0 ? input.len : (size_t)end + 1;

		buf_add_slice(&peer->line, slice_sub(input, 0, n));
		conn_consume(peer->conn, n);
		if (peer->line.failed) {
			peer_close(peer);
			return;
		}
		if (end < 0)
			break;
		timer_stop(&peer->timer);
		conn_pause(peer->conn);
		control_run_line(peer, buf_view(&peer->line));
		return;
	}
	if (peer->has_ended && !peer->running)
		peer_close(peer);
	else if (!peer->running)
		timer_set(&peer->timer, peer->control->loop, CONTROL_REQUEST_MS);
}

static void on_conn(void *owner, struct conn *conn, enum conn_event event)
{
	struct control_peer *peer = owner;

	(void)conn;
	switch (event) {
	case CONN_OPENED:
	case CONN_SECURED:
		break;
	case CONN_DRAINED:
		if (peer->is_full) {
			peer->is_full = false;
			timer_stop(&peer->timer);
			give_room(peer->running);
		}
		break;
	case CONN_DATA:
		peer_advance(peer);
		break;
	case CONN_EOF:
		peer->has_ended = true;
		peer_advance(peer);
		break;
	case CONN_FAILED:
		peer_close(peer);
		break;
	}
}

static void next_line(void *arg)
{
	struct control_peer *peer = arg;

	if (!peer->conn)
		return;
	conn_resume(peer->conn);
	peer_advance(peer);
}

void control_peer_next(struct control_peer *peer)
{
	secret_wipe(peer->line.data, peer->line.cap);
	buf_clear(&peer->line);
	peer->running = NULL;
	/* Not from inside of the verb's call: it may have been called by peer_advance(). */
	loop_defer(peer->control->loop, next_line, peer);
}

static void on_accept(void *arg, struct conn *conn_take)
{
	struct control *control = arg;
	struct control_peer *peer;

	if (control->is_closing) {
		conn_abort(&conn_take);
		return;
	}
	peer = xcalloc(1, sizeof(*peer));
	peer->control = control;
	peer->conn = conn_take;
	buf_init(&peer->line, CONTROL_LINE_MOST);
	timer_init(&peer->timer, on_slow, peer);
	list_add_last(&control->peers, &peer->link);
	conn_take_fds(conn_take);
	conn_set_owner(conn_take, on_conn, peer);
	timer_set(&peer->timer, control->loop, CONTROL_REQUEST_MS);
}

void control_send_take(struct control_peer *peer, json_t *object)
{
	char *text = peer ? json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	if (text) {
		conn_write_str(peer->conn, text);
		conn_write(peer->conn, SLICE_LIT("\n"));
	}
	free(text);
	json_decref(object);
}

void control_when_room(struct control_request *request, loop_fn *fn, void *arg)
{
	struct control_peer *peer = request->peer;

	require(!request->room_fn);
	request->room_fn = fn;
	request->room_arg = arg;
	if (!peer || conn_output_len(peer->conn) <= CONN_HIGH_MARK) {
		give_room(request);
		return;
	}
	peer->is_full = true;
	conn_want_drained(peer->conn);
	timer_set(&peer->timer, peer->control->loop, CONTROL_REQUEST_MS);
}

/* A socket file that nobody listens on is left over from a program that died: it is removed. */
static int clear_path(const char *path, struct buf *why)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, rc;

	if (strlen(path) >= sizeof(un.sun_path)) {
		buf_printf(why, "%s: is too long for a socket", path);
		return ERR_TOO_BIG;
	}
	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		buf_printf(why, "%s: is there and is no socket", path);
		return ERR_EXISTS;
	}
	memcpy(un.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_from_errno(errno);
	rc = connect(fd, (struct sockaddr *)&un, sizeof(un));
	rc = rc == 0 || errno != ECONNREFUSED ? ERR_EXISTS : 0;
	close(fd);
	if (rc)
		buf_printf(why, "%s: another program listens there", path);
	else
		unlink(path);
	return rc;
}

static int set_group(const char *path, const char *group, struct buf *why)
{
	const struct group *g;

	if (!group || !group[0])
		return 0;
	g = getgrnam(group);
	if (!g) {
		buf_printf(why, "there is no group %s", group);
		return ERR_CONFIG;
	}
	if (chown(path, (uid_t)-1, g->gr_gid) || chmod(path, 0660)) {
		buf_printf(why, "%s: group %s: %s", path, group, strerror(errno));
		return error_from_errno(errno);
	}
	return 0;
}

/* Opens the listener at path, or takes it from the program before us. */
static int listen_at(struct control *control, const char *path, struct buf *why)
{
	struct listener_options options = {
		.connections_most = CONTROL_PEERS_MOST, .name = "control", .unix_mode = 0600};
	int error = addr_parse(slice_str(path), 0, &options.addr);

	if (error) {
		buf_printf(why, "%s: is no path of a socket (write it from the root)", path);
		return error;
	}
	error = inherit_count(&options.addr) ? 0 : clear_path(path, why);
	if (!error)
		error = listener_open_on(
			control->loop, &options, on_accept, control, why, &control->listener);
	return error ? error : set_group(path, control->group, why);
}

int control_open(struct loop *loop, const char *program, const char *path, const char *group, struct buf *why,
	struct control **control_out)
{
	struct control *control = xcalloc(1, sizeof(*control));
	int error;

	control->loop = loop;
	control->program = program;
	control->path = xstrdup(path);
	control->group = group ? xstrdup(group) : NULL;
	control->started_ms = clock_mono_ms();
	list_init(&control->peers);
	error = listen_at(control, path, why);
	if (error) {
		control_close(&control);
		return error;
	}
	control_register(control, control_own_verbs, control_own_verb_count, control);
	*control_out = control;
	return 0;
}

int control_move(struct control *control, struct buf *why)
{
	struct buf path = {0};
	int error;

	buf_printf(&path, "%s.%d", control->path, (int)getpid());
	listener_close(&control->listener);
	error = listen_at(control, buf_str_view(&path), why);
	buf_deinit(&path);
	return error;
}

static void free_control(void *arg)
{
	struct control *control = arg;

	while (control->tables) {
		struct control_table *t = control->tables;

		control->tables = t->next;
		free(t);
	}
	free(control->path);
	free(control->group);
	free(control);
}

/* The listener still accepts what waits while it closes, by a post: the memory goes by a later post. */
void control_close(struct control **control)
{
	struct control *c = *control;

	if (!c)
		return;
	*control = NULL;
	c->is_closing = true;
	list_for_each_safe (at, &c->peers)
		peer_close(container_of(at, struct control_peer, link));
	listener_close(&c->listener);
	loop_post(c->loop, free_control, c);
}

void control_register(struct control *control, const struct control_verb *verbs, size_t count, void *arg)
{
	struct control_table *table = xcalloc(1, sizeof(*table)), **last = &control->tables;

	table->verbs = verbs;
	table->count = count;
	table->arg = arg;
	while (*last)
		last = &(*last)->next;
	*last = table;
}

void control_check(struct conf *conf)
{
	const char *group = conf_get_string(conf, "control", NULL, "group");

	if (group[0] && !getgrnam(group))
		conf_error(conf, "control", NULL, "group", "there is no group %s", group);
}

int control_open_conf(struct loop *loop, const char *program, const struct conf *conf, struct buf *why,
	struct control **control_out)
{
	const char *path = conf_get_string(conf, "control", NULL, "socket");

	if (!path[0]) {
		*control_out = NULL;
		return 0;
	}
	return control_open(
		loop, program, path, conf_get_string(conf, "control", NULL, "group"), why, control_out);
}
