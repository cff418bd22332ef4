/*
 * IMAP commands: the first octet chooses limits and what becomes of literals, the second how the input is
 * cut. Beyond not crashing: consumed <= given, the arena's cap holds, cut feeding gives what whole feeding
 * gives, no slice of the tree points outside the arena's copies (the sanitizer sees it when the tree is
 * walked).
 */
#include <stdlib.h>

#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/proto/imap_parse.h"
#include "common/proto/seqset.h"

struct run {
	const struct imap_parse_limits *limits;
	size_t arena_limit;
	unsigned answer; /* 0 hold, 1 stream, 2 refuse */
	struct buf log;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(struct run *r, const struct imap_arg *arg, struct arena *arena)
{
	const struct imap_arg *stack[64];
	size_t depth = 0;

	while (arg || depth) {
		if (!arg) {
			arg = stack[--depth];
			buf_add_char(&r->log, ')');
			continue;
		}
		buf_printf(&r->log, " %d%c", arg->type, arg->is_glued ? '.' : ':');
		buf_add_slice(&r->log, arg->text);
		if (arg->type == IMAP_ARG_LIST) {
			require(depth < ARRAY_LEN(stack));
			stack[depth++] = arg->next;
			arg = arg->first;
			continue;
		}
		if (arg->type != IMAP_ARG_STREAM) {
			struct seqset set;

			if (seqset_parse(arg->text, arena, &set) == 0)
				seqset_resolve(&set, 7);
		}
		arg = arg->next;
	}
}

static ssize_t take_literal(struct run *r, struct imap_parse *p, struct slice rest)
{
	buf_printf(&r->log, "+%llu", (unsigned long long)p->literal.size);
	if (r->answer == 2) {
		imap_parse_refuse(p, "refused");
	} else if (r->answer == 1 && p->literal.size <= rest.len) {
		imap_parse_stream(p);
		return (ssize_t)p->literal.size;
	} else if ((p->literal.size % 2 ? imap_parse_hold_binary(p) : imap_parse_hold(p)) < 0) {
		buf_add_char(&r->log, 'x');
	}
	return 0;
}

/* step: at most so many new octets a call. */
static void parse_all(struct run *r, struct slice in, size_t step)
{
	struct imap_parse p;
	struct arena arena;
	size_t at = 0, end = 0;

	arena_init(&arena, r->arena_limit);
	imap_parse_start(&p, r->limits, &arena);
	for (;;) {
		enum imap_parse_event event;
		ssize_t n = imap_parse_feed(&p, slice_sub(in, at, end - at), &event);

		require(arena.used <= r->arena_limit);
		if (n < 0) {
			buf_add_str(&r->log, "LOST");
			break;
		}
		require((size_t)n <= end - at);
		at += (size_t)n;
		if (event == IMAP_PARSE_MORE) {
			if (end == in.len)
				break;
			end = in.len - end > step ? end + step : in.len;
		} else if (event == IMAP_PARSE_LITERAL) {
			at += (size_t)take_literal(r, &p, slice_from(in, at));
			if (end < at)
				end = at;
		} else {
			buf_printf(&r->log, "\n%d %.*s %.*s", event, SLICE_ARG(p.command.tag),
				SLICE_ARG(p.command.name));
			if (event == IMAP_PARSE_BAD)
				buf_add_str(&r->log, p.reason);
			else
				walk(r, p.command.args, &arena);
			arena_reset(&arena);
			imap_parse_start(&p, r->limits, &arena);
		}
	}
	arena_deinit(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run whole = {0}, cut;

	if (size < 2 || size > 100000)
		return 0;
	whole.limits = data[0] & 1 ? &imap_parse_limits_before_login : &imap_parse_limits_after_login;
	whole.arena_limit = data[0] & 1 ? IMAP_PARSE_ARENA_BEFORE : IMAP_PARSE_ARENA_AFTER;
	whole.answer = (data[0] >> 1) % 3;
	cut = whole;
	parse_all(&whole, slice_of(data + 2, size - 2), SIZE_MAX / 2);
	parse_all(&cut, slice_of(data + 2, size - 2), 1 + data[1]);
	require(slice_is_equal(buf_view(&whole.log), buf_view(&cut.log)));
	buf_deinit(&whole.log);
	buf_deinit(&cut.log);
	return 0;
}
