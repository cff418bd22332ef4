#include "proxy/listeners.h"

#include "common/front/imap_front.h"
#include "common/front/pop3_front.h"
#include "common/front/smtp_front.h"
#include "proxy/worker.h"

static struct listen_set *set;

static front_start_fn *const fronts[CONFIG_SERVICES] = {
	[CONFIG_IMAP] = imap_front_start, [CONFIG_POP3] = pop3_front_start};

static void on_accept(size_t index, struct conn *conn_take)
{
	const struct config_listener *l = &worker_here()->config->listeners[index];
	unsigned flags = conn_is_tls(conn_take) ? FRONT_IMPLICIT_TLS : 0;

	if (l->front)
		fronts[l->service](l->front, conn_take, flags);
	else if (l->smtp)
		smtp_front_start(l->smtp, conn_take, flags);
	else
		conn_close(&conn_take);
}

int listeners_open(struct loop *loop, struct loop_group *group, const struct config *config, struct buf *why)
{
	return listen_open(loop, group, config->listen, on_accept, why, &set);
}

void listeners_set_config(const struct config *config)
{
	listen_set_config(set, config->listen);
}

void listeners_refuse(void)
{
	listen_refuse(set);
}

void listeners_stop(void)
{
	listen_stop(set);
}

int64_t listeners_connections(void)
{
	return listen_connections(set);
}

void listeners_close(void)
{
	listen_close(set);
}

void listeners_free(void)
{
	listen_set_free(&set);
}
