/*
 * One struct probe per host of a back-end and protocol. A leg without a login is the probe of IMAP and POP3; LMTP and submission
 * need their greeting alone. A
 * probe that was told to end while it runs lives until its turn is over.
 */
#include "proxy/probe.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "proxy/leg.h"

struct probe {
	struct list link;
	struct loop *loop;
	struct backend *backend; /* counted */
	unsigned host;
	enum backend_protocol protocol;
	struct timer timer; /* until the next, or the deadline of LMTP's */
	struct leg leg;
	bool has_leg;
	struct conn *conn; /* LMTP */
	bool is_done;      /* tried once */
};

static struct list probes = {&probes, &probes};
/* For good: a reload probes anew, and takes no proxy out while a back-end hangs. */
static bool has_settled;

static void run(void *arg);

/* ---- what a probe found ---- */

static void found(struct probe *p, int error, const char *detail)
{
	p->is_done = true;
	backend_probed(p->backend, p->host, p->protocol, error, detail);
	timer_stop(&p->timer);
	timer_init(&p->timer, run, p);
	timer_set(&p->timer, p->loop, p->backend->probe_ms);
}

/* ---- IMAP and POP3 ---- */

static void leg_ended(void *arg, enum leg_result result, const char *detail)
{
	struct probe *p = arg;
	struct conn *conn = leg_take_conn(&p->leg);
	char text[200];

	snprintf(text, sizeof(text), "%s%s%s", leg_result_text(result), detail[0] ? ": " : "", detail);
	if (result == LEG_OK) {
		conn_write_str(conn, p->leg.protocol->logout);
		conn_close(&conn);
	}
	leg_deinit(&p->leg);
	p->has_leg = false;
	found(p, result == LEG_OK ? 0 : ERR_NOT_NOW, text);
}

/* ---- LMTP ---- */

static void lmtp_ended(struct probe *p, int error, const char *detail)
{
	conn_close(&p->conn);
	found(p, error, detail);
}

static void greeted(struct probe *p, struct slice line)
{
	char text[140];

	if (slice_has_prefix(line, "220")) {
		conn_write_str(p->conn, "QUIT\r\n");
		lmtp_ended(p, 0, NULL);
		return;
	}
	line = slice_trim(line);
	snprintf(text, sizeof(text), "greeting: %.*s", (int)(line.len < 120 ? line.len : 120), line.p);
	lmtp_ended(p, ERR_NOT_NOW, text);
}

static void on_lmtp(void *owner, struct conn *conn, enum conn_event event)
{
	struct probe *p = owner;
	struct slice in;
	ptrdiff_t end;

	switch (event) {
	case CONN_DATA:
		in = conn_input(conn);
		end = slice_find(in, '\n');
		if (end >= 0)
			greeted(p, slice_sub(in, 0, (size_t)end));
		break;
	case CONN_EOF:
		lmtp_ended(p, ERR_CLOSED, "it ended the connection");
		break;
	case CONN_FAILED:
		lmtp_ended(p, conn_error(conn), conn_error_detail(conn));
		break;
	case CONN_OPENED:
	case CONN_SECURED:
	case CONN_DRAINED:
		break;
	}
}

static void lmtp_is_late(void *arg)
{
	lmtp_ended(arg, ERR_TIMEOUT, "no greeting in time");
}

/* ---- all ---- */

static void leg_is_late(void *arg)
{
	struct probe *p = arg;

	leg_fail(&p->leg, LEG_TIMEOUT, "%s", "in time for a probe");
}

static void run(void *arg)
{
	static const struct leg_protocol *const protocols[BACKEND_PROTOCOLS] = {
		[BACKEND_IMAP] = &imap_handover, [BACKEND_POP3] = &pop3_handover};
	struct probe *p = arg;
	bool is_lmtp = p->protocol == BACKEND_LMTP || p->protocol == BACKEND_SUBMISSION;
	struct buf header = {0};
	const struct backend_try attempt = {
		.host = p->host, .tried = ~0u, .until_ms = clock_mono_ms() + p->backend->connect_ms};

	timer_init(&p->timer, is_lmtp ? lmtp_is_late : leg_is_late, p);
	timer_set(&p->timer, p->loop, p->backend->connect_ms);
	if (!is_lmtp) {
		memset(&p->leg, 0, sizeof(p->leg));
		p->has_leg = true;
		leg_start_probe(&p->leg, protocols[p->protocol], p->backend, p->host, p->loop, leg_ended, p);
		return;
	}
	if (p->backend->identity == IDENTITY_PROXY_V2)
		identity_write(&header, NULL);
	if (backend_dial(p->backend, p->protocol, 0, &attempt, buf_view(&header), p->loop, on_lmtp, p,
		    &p->conn) < 0)
		found(p, ERR_IO, "no descriptor, no free port, or no such address");
	buf_deinit(&header);
}

static void end(struct probe *p)
{
	timer_stop(&p->timer);
	list_remove(&p->link);
	if (p->has_leg)
		leg_deinit(&p->leg);
	if (p->conn)
		conn_close(&p->conn);
	backend_unref(&p->backend);
	loop_free_later(p->loop, p);
}

void probe_end(void)
{
	list_for_each_safe (at, &probes)
		end(container_of(at, struct probe, link));
}

static void begin(struct loop *loop, struct backend *b, unsigned host, enum backend_protocol protocol)
{
	struct probe *p = xcalloc(1, sizeof(*p));

	p->loop = loop;
	p->backend = backend_ref(b);
	p->host = host;
	p->protocol = protocol;
	list_add_last(&probes, &p->link);
	run(p);
}

void probe_set_config(struct loop *loop, struct config *config)
{
	const struct config_service_of *services = config->services;
	const bool used[BACKEND_PROTOCOLS] = {
		[BACKEND_IMAP] = services[CONFIG_IMAP].is_used,
		[BACKEND_POP3] = services[CONFIG_POP3].is_used,
		[BACKEND_LMTP] = services[CONFIG_SMTP].is_used,
		[BACKEND_SUBMISSION] = services[CONFIG_SUBMISSION].is_used,
	};

	probe_end();
	for (size_t i = 0; i < backends_count(config->backends); i++) {
		struct backend *b = backends_at(config->backends, i);

		for (unsigned protocol = 0; b->probe_ms && protocol < BACKEND_PROTOCOLS; protocol++) {
			for (unsigned host = 0; used[protocol] && host < b->host_count; host++)
				begin(loop, b, host, (enum backend_protocol)protocol);
		}
	}
}

bool probe_is_settled(void)
{
	bool is_settled = true;

	list_for_each (at, &probes)
		is_settled &= container_of(at, struct probe, link)->is_done;
	has_settled |= is_settled;
	return has_settled;
}
