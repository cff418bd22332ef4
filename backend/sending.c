#include "backend/sending.h"

#include <stdlib.h>

#include "backend/delivery/outbound.h"
#include "backend/notice_sign.h"
#include "backend/queue_settings.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/control/program.h"

struct sending {
	struct outbound *outbound;
	struct queue *queue;
	struct notice_sign *signer;
};

/* ---- between the two ---- */

static int next_hop(void *arg, struct slice domain, char out[OUTBOUND_NEXT_HOP_MAX])
{
	struct sending *s = arg;

	return outbound_next_hop(s->outbound, domain, out);
}

static int start_try(void *arg, const struct outbound_request *request, struct outbound_try **try_out)
{
	struct sending *s = arg;

	return outbound_start(s->outbound, request, try_out);
}

static void room(void *arg, const char *name)
{
	struct sending *s = arg;

	if (s->queue)
		queue_room(s->queue, name);
}

static void queued(void *arg)
{
	struct sending *s = arg;

	queue_wake(s->queue);
}

/* ---- life ---- */

static void read_settings(struct backend *b, struct buf texts[3], struct queue_settings *settings)
{
	struct srs *srs;

	queue_settings_read(b->config, texts, settings);
	if (!queue_settings_srs(b->config->conf, &srs))
		delivery_service_set_srs(b->delivery, srs);
}

int sending_start(struct backend *b, struct buf *why)
{
	struct loop *loop = loop_group_at(b->admin.group, loop_group_count(b->admin.group) - 1);
	struct sending *s = xcalloc(1, sizeof(*s));
	struct notice_sign *signer = notice_sign_new(loop);
	const struct queue_sender sender = {.next_hop = next_hop,
		.start = start_try,
		.octets = outbound_octets,
		.arg = s,
		.sign = notice_sign,
		.sign_arg = signer};
	struct queue_settings settings;
	struct buf texts[3] = {0};
	int err = notice_sign_set(signer, b->config->conf, why);

	s->signer = signer;
	if (!err)
		err = outbound_new(loop, b->config->conf, b->config->host,
			conf_get_string(b->config->conf, "", NULL, "store"), room, s, why, &s->outbound);
	if (err) {
		notice_sign_free(&s->signer);
		free(s);
		return err;
	}
	read_settings(b, texts, &settings);
	s->queue = queue_new(b->admin.work, b->delivery, loop, &sender, &settings);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		buf_deinit(&texts[i]);
	delivery_service_on_queued(b->delivery, queued, s);
	b->sending = s;
	b->admin.queue = s->queue;
	b->admin.tls_report = outbound_tls_report(s->outbound);
	queue_start(s->queue);
	return 0;
}

void sending_reload(struct backend *b)
{
	struct queue_settings settings;
	struct buf texts[3] = {0}, why = {0};

	if (!b->sending)
		return;
	if (outbound_set_config(b->sending->outbound, b->config->conf, b->config->host, &why))
		program_log_lines(LOG_ERROR, "backend", "sending goes on as before", &why);
	if (notice_sign_set(b->sending->signer, b->config->conf, &why))
		program_log_lines(LOG_ERROR, "backend", "notices are signed as before", &why);
	read_settings(b, texts, &settings);
	queue_set(b->sending->queue, &settings);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		buf_deinit(&texts[i]);
	buf_deinit(&why);
}

void sending_drain(struct backend *b)
{
	if (b->sending)
		queue_end(b->sending->queue);
}

bool sending_is_busy(const struct backend *b)
{
	return b->sending && queue_active(b->sending->queue) > 0;
}

void sending_end(struct backend *b)
{
	if (!b->sending)
		return;
	queue_end(b->sending->queue);
	outbound_end(b->sending->outbound);
	outbound_cut(b->sending->outbound);
}

void sending_free(struct backend *b)
{
	if (!b->sending)
		return;
	outbound_free(&b->sending->outbound);
	queue_free(&b->sending->queue);
	notice_sign_free(&b->sending->signer);
	b->admin.queue = NULL;
	b->admin.tls_report = NULL;
	free(b->sending);
	b->sending = NULL;
}
