#include "proxy/listeners.h"

#include "common/base/mem.h"
#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"
#include "common/front/smtp_front.h"
#include "common/net/listener.h"
#include "proxy/worker.h"

struct place {
	struct listener *listener;
	size_t index; /* of the section in struct config */
};

static struct place *places;
static size_t place_count;

static front_start_fn *const fronts[CONFIG_SERVICES] = {
	[CONFIG_IMAP] = imap_front_start, [CONFIG_POP3] = pop3_front_start};

static void on_accept(void *arg, struct conn *conn_take)
{
	const struct place *place = arg;
	const struct config_listener *l = &worker_here()->config->listeners[place->index];
	unsigned flags = l->is_implicit_tls ? FRONT_IMPLICIT_TLS : 0;

	if (l->front)
		fronts[l->service](l->front, conn_take, flags);
	else if (l->smtp)
		smtp_front_start(l->smtp, conn_take, flags);
	else
		conn_close(&conn_take);
}

static int parse_address(const struct conf_address *a, struct addr *addr_out)
{
	const char *host = strcmp(a->host, "*") == 0 ? "::" : a->host;

	return addr_parse(slice_str(host), a->port, addr_out);
}

static int open_place(struct loop_group *group, const struct config *config, size_t index,
	const struct conf_address *a, struct buf *why)
{
	const struct config_listener *l = &config->listeners[index];
	struct place *place = &places[place_count];
	struct listener_options options = {
		.tls = l->is_implicit_tls ? l->tls : NULL,
		.connections_most = (unsigned)conf_get_int(config->conf, "listener", l->title, "connections"),
		.name = l->title,
		.unix_mode = 0666,
	};
	int err = parse_address(a, &options.addr);

	place->index = index;
	if (err < 0)
		buf_printf(why, "%s: this is no address: %s",
			conf_where(config->conf, "listener", l->title, "listen"), a->host);
	else
		err = listener_open(group, &options, on_accept, place, why, &place->listener);
	if (err == 0)
		place_count++;
	return err;
}

int listeners_open(struct loop_group *group, const struct config *config, struct buf *why)
{
	size_t total = 0, count;
	int err = 0;

	for (size_t i = 0; i < config->listener_count; i++) {
		(void)conf_get_addresses(
			config->conf, "listener", config->listeners[i].title, "listen", &count);
		total += count;
	}
	places = xcalloc(total + 1, sizeof(*places));
	for (size_t i = 0; err == 0 && i < config->listener_count; i++) {
		const struct conf_address *a = conf_get_addresses(
			config->conf, "listener", config->listeners[i].title, "listen", &count);

		for (size_t k = 0; err == 0 && k < count; k++)
			err = open_place(group, config, i, &a[k], why);
	}
	if (err < 0)
		listeners_close();
	return err;
}

void listeners_set_config(const struct config *config)
{
	for (size_t i = 0; i < place_count; i++) {
		const struct config_listener *l = &config->listeners[places[i].index];

		if (l->is_implicit_tls)
			listener_set_tls(places[i].listener, l->tls);
	}
}

void listeners_refuse(void)
{
	for (size_t i = 0; i < place_count; i++)
		listener_refuse(places[i].listener);
}

void listeners_stop(void)
{
	for (size_t i = 0; i < place_count; i++)
		listener_stop(places[i].listener);
}

int64_t listeners_connections(void)
{
	int64_t count = 0;

	for (size_t i = 0; i < place_count; i++)
		count += listener_connections(places[i].listener);
	return count;
}

void listeners_close(void)
{
	/* The memory of a place stays: a connection may be on its way to on_accept(). */
	for (size_t i = 0; i < place_count; i++)
		listener_close(&places[i].listener);
	place_count = 0;
}
