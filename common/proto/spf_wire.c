#include "common/proto/spf_wire.h"

static const char magic[] = "SPF1";

struct reader {
	struct slice rest;
	bool failed;
};

static void put16(struct buf *out, size_t n)
{
	buf_add_char(out, (char)(n >> 8));
	buf_add_char(out, (char)n);
}

static void put_text(struct buf *out, struct slice text)
{
	put16(out, text.len);
	buf_add_slice(out, text);
}

static unsigned get16(struct reader *r)
{
	unsigned n;

	if (r->rest.len < 2) {
		r->failed = true;
		return 0;
	}
	n = (unsigned)(unsigned char)r->rest.p[0] << 8 | (unsigned char)r->rest.p[1];
	r->rest = slice_from(r->rest, 2);
	return n;
}

static struct slice get_text(struct reader *r)
{
	size_t len = get16(r);
	struct slice text = slice_sub(r->rest, 0, len);

	if (len > r->rest.len)
		r->failed = true;
	r->rest = slice_from(r->rest, text.len);
	return text;
}

/* ---- runs ---- */

static bool fits(struct slice s)
{
	return s.len <= UINT16_MAX;
}

int spf_wire_write_run(const struct spf_wire_run *run, struct buf *out)
{
	const struct slice texts[] = {run->ip, run->sender, run->helo, run->domain, run->record};
	size_t before = buf_len(out);

	if (run->count > SPF_WIRE_ANSWERS_MOST)
		return ERR_TOO_BIG;
	buf_add(out, magic, 4);
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		if (!fits(texts[i]))
			return ERR_TOO_BIG;
		put_text(out, texts[i]);
	}
	put16(out, run->count);
	for (unsigned i = 0; i < run->count; i++) {
		const struct spf_wire_answer *a = &run->answers[i];

		if (!fits(a->name) || a->count > SPF_WIRE_RECORDS_MOST)
			return ERR_TOO_BIG;
		put16(out, a->type);
		put_text(out, a->name);
		put16(out, (size_t)a->state);
		put16(out, a->count);
		for (unsigned k = 0; k < a->count; k++) {
			if (!fits(a->data[k]))
				return ERR_TOO_BIG;
			put_text(out, a->data[k]);
		}
	}
	return out->failed || buf_len(out) - before > SPF_WIRE_RUN_MOST ? ERR_TOO_BIG : 0;
}

static int read_answer(struct reader *r, struct arena *arena, struct spf_wire_answer *a)
{
	struct slice *data;
	unsigned state;

	a->type = get16(r);
	a->name = get_text(r);
	state = get16(r);
	a->state = (enum spf_wire_state)state;
	a->count = get16(r);
	if (r->failed || state > SPF_WIRE_FAILED || a->count > SPF_WIRE_RECORDS_MOST ||
		(a->count > 0) != (a->state == SPF_WIRE_RECORDS))
		return ERR_SYNTAX;
	data = arena_calloc(arena, a->count, sizeof(*data));
	if (a->count && !data)
		return ERR_TOO_BIG;
	for (unsigned i = 0; i < a->count; i++)
		data[i] = get_text(r);
	a->data = data;
	return r->failed ? ERR_SYNTAX : 0;
}

int spf_wire_read_run(struct slice in, struct arena *arena, struct spf_wire_run *run_out)
{
	struct reader r = {.rest = slice_from(in, 4)};
	struct spf_wire_answer *answers;
	struct spf_wire_run run;

	if (in.len > SPF_WIRE_RUN_MOST)
		return ERR_TOO_BIG;
	if (in.len < 4 || memcmp(in.p, magic, 4) != 0)
		return ERR_SYNTAX;
	run.ip = get_text(&r);
	run.sender = get_text(&r);
	run.helo = get_text(&r);
	run.domain = get_text(&r);
	run.record = get_text(&r);
	run.count = get16(&r);
	if (r.failed || (run.ip.len != 4 && run.ip.len != 16) || run.count > SPF_WIRE_ANSWERS_MOST)
		return ERR_SYNTAX;
	run.answers = answers = arena_calloc(arena, run.count, sizeof(*answers));
	if (run.count && !answers)
		return ERR_TOO_BIG;
	for (unsigned i = 0; i < run.count; i++) {
		int err = read_answer(&r, arena, &answers[i]);

		if (err)
			return err;
	}
	if (r.rest.len)
		return ERR_SYNTAX;
	*run_out = run;
	return 0;
}

/* ---- replies ---- */

int spf_wire_write_reply(const struct spf_wire_reply *reply, struct buf *out)
{
	size_t before = buf_len(out);

	if (reply->count > SPF_WIRE_TRACE_MOST || reply->text.len > SPF_WIRE_TEXT_MOST)
		return ERR_TOO_BIG;
	put16(out, (size_t)reply->kind);
	put16(out, (size_t)reply->result);
	put16(out, reply->type);
	put_text(out, reply->text);
	put16(out, reply->count);
	for (unsigned i = 0; i < reply->count; i++)
		put16(out, reply->trace[i]);
	return out->failed || buf_len(out) - before > SPF_WIRE_REPLY_MOST ? ERR_TOO_BIG : 0;
}

int spf_wire_read_reply(struct slice in, unsigned answers, struct spf_wire_reply *reply_out)
{
	struct reader r = {.rest = in};
	unsigned kind = get16(&r), result = get16(&r);

	reply_out->kind = (enum spf_wire_kind)kind;
	reply_out->result = (enum spf_result)result;
	reply_out->type = get16(&r);
	reply_out->text = get_text(&r);
	reply_out->count = get16(&r);
	if (r.failed || in.len > SPF_WIRE_REPLY_MOST || kind > SPF_WIRE_MISSING || result >= SPF_RESULTS ||
		reply_out->text.len > SPF_WIRE_TEXT_MOST || reply_out->count > SPF_WIRE_TRACE_MOST ||
		r.rest.len != 2 * (size_t)reply_out->count)
		return ERR_SYNTAX;
	for (unsigned i = 0; i < reply_out->count; i++) {
		reply_out->trace[i] = (uint16_t)get16(&r);
		if (reply_out->trace[i] >= answers)
			return ERR_SYNTAX;
	}
	return 0;
}
