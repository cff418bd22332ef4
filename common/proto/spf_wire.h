/*
 * What a program and its SPF checker say to each other, a datagram each way: a run with the DNS answers that there are, and what came
 * of it. Either side takes the other for hostile: every length is checked, a message is used up to its last octet. Before each stands a
 * number of SPF_WIRE_NUMBER_LEN octets, which its run has by chance and its reply repeats: a reply to another run is none.
 *
 *	run:   "SPF1", ip, sender, helo, domain, record, count of answers, answers: type, name, state, count, data...
 *	reply: kind, result, count of the trace, positions in the answers, text; and for a missing answer its type
 *
 * Numbers are two octets, high one first; texts and data have their length before them.
 */
#pragma once

#include "common/base/arena.h"
#include "common/base/attr.h"
#include "common/base/buf.h"
#include "common/base/error.h"

#define SPF_WIRE_NUMBER_LEN 8
#define SPF_WIRE_RUN_MOST (160 * 1024)
#define SPF_WIRE_REPLY_MOST (8 * 1024)
#define SPF_WIRE_ANSWERS_MOST 256
#define SPF_WIRE_RECORDS_MOST 100
#define SPF_WIRE_TRACE_MOST 1024
#define SPF_WIRE_TEXT_MOST 1024 /* of a reply */

enum spf_wire_state {
	SPF_WIRE_RECORDS,
	SPF_WIRE_NONE, /* no such name, or no such record */
	SPF_WIRE_FAILED
};

struct spf_wire_answer {
	unsigned type; /* enum dns_type */
	struct slice name;
	enum spf_wire_state state;
	unsigned count;
	const struct slice
		*data; /* A: 4 octets, AAAA: 16; MX, PTR: a name; TXT: the record as the checker may see it */
};

struct spf_wire_run {
	struct slice ip;     /* 4 or 16 octets */
	struct slice sender; /* local@domain */
	struct slice helo;
	struct slice domain;
	struct slice record; /* of the domain */
	unsigned count;
	const struct spf_wire_answer *answers;
};

enum spf_wire_kind {
	SPF_WIRE_RESULT,
	SPF_WIRE_MISSING
};

/* In this order on the wire; also of who asked for the check. */
enum spf_result {
	SPF_NONE,
	SPF_NEUTRAL,
	SPF_PASS,
	SPF_FAIL,
	SPF_SOFTFAIL,
	SPF_TEMPERROR,
	SPF_PERMERROR
};
#define SPF_RESULTS (SPF_PERMERROR + 1)

struct spf_wire_reply {
	enum spf_wire_kind kind;
	enum spf_result result;
	unsigned type; /* MISSING: of the answer that there is not */
	/* RESULT: the term that matched, or what is wrong; MISSING: the name. View. */
	struct slice text;
	unsigned count; /* answers that were looked at, in order; with repeats */
	uint16_t trace[SPF_WIRE_TRACE_MOST];
};

/* ERR_TOO_BIG: a limit above. */
MUST_CHECK int spf_wire_write_run(const struct spf_wire_run *run, struct buf *out);
/* Views of `in`; lists are the arena's. ERR_SYNTAX, ERR_TOO_BIG. */
MUST_CHECK int spf_wire_read_run(struct slice in, struct arena *arena, struct spf_wire_run *run_out);
MUST_CHECK int spf_wire_write_reply(const struct spf_wire_reply *reply, struct buf *out);
/* answers: how many the run had. */
MUST_CHECK int spf_wire_read_reply(struct slice in, unsigned answers, struct spf_wire_reply *reply_out);
