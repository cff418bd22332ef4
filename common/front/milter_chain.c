#include "common/front/milter_chain.h"

#include "common/base/mem.h"

struct milter_chain {
	struct milters *milters;
	struct loop *loop;
	size_t count, at;
	struct milter *ones[MILTERS_MOST];
	const struct milter_event *event; /* NULL: a message is shown */
	const struct milter_message *message;
	milter_chain_before_fn *before;
	const struct milter_facts *facts;
	milter_fn *fn;
	void *arg;
};

struct milter_chain *milter_chain_new(struct milters *milters, const struct milter_settings *const *settings,
	size_t count, struct loop *loop)
{
	struct milter_chain *c;

	if (!count)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->milters = milters_ref(milters);
	c->loop = loop;
	for (; c->count < count && c->count < MILTERS_MOST; c->count++)
		c->ones[c->count] = milter_new(settings[c->count], loop);
	return c;
}

void milter_chain_free(struct milter_chain **chain)
{
	struct milter_chain *c = *chain;

	*chain = NULL;
	if (!c)
		return;
	c->fn = NULL;
	for (size_t i = 0; i < c->count; i++)
		milter_free(&c->ones[i]);
	c->count = 0;
	milters_unref(&c->milters);
	loop_free_later(c->loop, c);
}

static void answer(struct milter_chain *c, enum milter_outcome outcome, const struct smtp_answer *text)
{
	milter_fn *fn = c->fn;
	void *arg = c->arg;

	c->fn = NULL;
	c->event = NULL;
	c->message = NULL;
	if (fn)
		fn(arg, outcome, text);
}

static void ask_next(struct milter_chain *c);

static void on_answer(void *arg, enum milter_outcome outcome, const struct smtp_answer *text)
{
	struct milter_chain *c = arg;

	if (outcome != MILTER_GO_ON) {
		answer(c, outcome, text);
		return;
	}
	c->at++;
	ask_next(c);
}

static void ask_next(struct milter_chain *c)
{
	const struct milter_event *e = c->event;
	struct milter *m;

	if (c->at >= c->count) {
		answer(c, MILTER_GO_ON, NULL);
		return;
	}
	m = c->ones[c->at];
	if (!e) {
		c->before(c->message->arg, c->at);
		milter_message(m, c->facts, c->message, on_answer, c);
		return;
	}
	switch (e->kind) {
	case MILTER_EVENT_CONNECT:
		milter_connect(m, c->facts, on_answer, c);
		break;
	case MILTER_EVENT_HELO:
		milter_helo(m, c->facts, on_answer, c);
		break;
	case MILTER_EVENT_MAIL:
		milter_mail(m, c->facts, e->path, e->params, on_answer, c);
		break;
	case MILTER_EVENT_RCPT:
		milter_rcpt(m, c->facts, e->path, e->params, on_answer, c);
		break;
	case MILTER_EVENT_DATA:
		milter_data(m, c->facts, on_answer, c);
		break;
	case MILTER_EVENT_UNKNOWN:
		milter_unknown(m, c->facts, e->path, on_answer, c);
		break;
	}
}

static void begin(struct milter_chain *c, const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	require(!c->fn);
	c->facts = facts;
	c->fn = fn;
	c->arg = arg;
	c->at = 0;
}

void milter_chain_ask(struct milter_chain *c, const struct milter_event *event,
	const struct milter_facts *facts, milter_fn *fn, void *arg)
{
	begin(c, facts, fn, arg);
	c->event = event;
	ask_next(c);
}

void milter_chain_message(struct milter_chain *c, const struct milter_facts *facts,
	const struct milter_message *message, milter_chain_before_fn *before, milter_fn *fn, void *arg)
{
	begin(c, facts, fn, arg);
	c->message = message;
	c->before = before;
	ask_next(c);
}

void milter_chain_abort(struct milter_chain *c)
{
	c->fn = NULL;
	c->event = NULL;
	c->message = NULL;
	for (size_t i = 0; i < c->count; i++)
		milter_abort(c->ones[i]);
}
