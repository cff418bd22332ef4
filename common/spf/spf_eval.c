/*
 * The library sees a DNS of ours: an answer that was given, or, the first time that one is missing, a failure, which ends the run. What
 * it looked at is noted in order, so that the program can count look-ups by RFC 7208 and not by the library's own ideas.
 */
#include "common/spf/spf_eval.h"

#include <netdb.h>
#include <stdlib.h>

#include <spf2/spf.h>

#include "common/proto/dns_record.h"
#include "common/proto/spf_wire.h"

#define ARENA_MOST (1024 * 1024)
#define TERMS_MOST 256

struct eval {
	struct spf_wire_run run;
	struct spf_wire_reply reply;
	char text[SPF_WIRE_TEXT_MOST];
	bool is_missing;
	bool is_probing; /* nothing is noted */
};

static void set_text(struct eval *e, struct slice text)
{
	text = slice_sub(text, 0, sizeof(e->text));
	memcpy(e->text, text.p, text.len);
	e->reply.text = slice_of(e->text, text.len);
}

/* ---- the DNS ---- */

static size_t record_size(ns_type type, struct slice data)
{
	return type == ns_t_a ? 4 : type == ns_t_aaaa ? 16 : data.len + 1;
}

static bool fill(SPF_dns_rr_t *rr, const struct spf_wire_answer *answer, ns_type type)
{
	for (unsigned i = 0; i < answer->count; i++) {
		struct slice data = answer->data[i];
		size_t size = record_size(type, data);

		if (type == ns_t_a || type == ns_t_aaaa ? data.len != size
							: memchr(data.p, '\0', data.len) != NULL)
			return false;
		if (SPF_dns_rr_buf_realloc(rr, (int)i, size) != SPF_E_SUCCESS)
			return false;
		memset(rr->rr[i], 0, size);
		memcpy(rr->rr[i], data.p, data.len);
		rr->num_rr = (int)i + 1;
	}
	return true;
}

static SPF_dns_rr_t *lookup(SPF_dns_server_t *server, const char *domain, ns_type type, int should_cache)
{
	struct eval *e = server->hook;
	struct slice name = slice_str(domain);
	SPF_dns_rr_t *rr;

	(void)should_cache;
	if (type == ns_t_spf) /* experimental, and gone with RFC 7208 section 3.1 */
		return SPF_dns_rr_new_init(server, domain, type, 0, HOST_NOT_FOUND);
	for (unsigned i = 0; i < e->run.count; i++) {
		const struct spf_wire_answer *answer = &e->run.answers[i];

		if (answer->type != (unsigned)type || !slice_is_equal_nocase(answer->name, name))
			continue;
		if (!e->is_probing && !e->is_missing && e->reply.count < SPF_WIRE_TRACE_MOST)
			e->reply.trace[e->reply.count++] = (uint16_t)i;
		rr = SPF_dns_rr_new_init(server, domain, type, 0,
			answer->state == SPF_WIRE_RECORDS ? NETDB_SUCCESS
			: answer->state == SPF_WIRE_NONE  ? HOST_NOT_FOUND
							  : TRY_AGAIN);
		if (rr && !fill(rr, answer, type))
			rr->herrno = TRY_AGAIN;
		return rr;
	}
	if (!e->is_missing && !e->is_probing) {
		e->is_missing = true;
		e->reply.type = (unsigned)type;
		set_text(e, name);
	}
	return SPF_dns_rr_new_init(server, domain, type, 0, TRY_AGAIN);
}

/* ---- a run ---- */

static const struct {
	SPF_result_t theirs;
	enum spf_result ours;
} results[] = {
	{SPF_RESULT_NEUTRAL, SPF_NEUTRAL},
	{SPF_RESULT_PASS, SPF_PASS},
	{SPF_RESULT_FAIL, SPF_FAIL},
	{SPF_RESULT_SOFTFAIL, SPF_SOFTFAIL},
	{SPF_RESULT_NONE, SPF_NONE},
	{SPF_RESULT_TEMPERROR, SPF_TEMPERROR},
	{SPF_RESULT_PERMERROR, SPF_PERMERROR},
};

static enum spf_result result_of(SPF_response_t *response)
{
	for (size_t i = 0; i < ARRAY_LEN(results); i++)
		if (results[i].theirs == SPF_response_result(response))
			return results[i].ours;
	return SPF_PERMERROR;
}

/* The response; NULL: no memory. */
static SPF_response_t *interpret(SPF_server_t *server, SPF_request_t *request, const char *record)
{
	SPF_response_t *response = SPF_response_new(request);
	SPF_record_t *compiled = NULL;

	if (!response)
		return NULL;
	if (SPF_record_compile(server, response, &compiled, record) != SPF_E_SUCCESS) {
		response->result = SPF_RESULT_PERMERROR;
	} else {
		response->spf_record_exp = compiled;
		SPF_record_interpret(compiled, request, response, 0);
		response->spf_record_exp = NULL;
	}
	if (compiled)
		SPF_record_free(compiled);
	return response;
}

static bool matches(SPF_server_t *server, SPF_request_t *request, struct slice record)
{
	char *text = slice_copy_str(record);
	SPF_response_t *response = interpret(server, request, text);
	bool does = response && SPF_response_reason(response) == SPF_REASON_MECH;

	if (response)
		SPF_response_free(response);
	free(text);
	return does;
}

/* Which term of the domain's own record decided: the least number of terms that decide as all do. */
static void find_term(struct eval *e, SPF_server_t *server, SPF_request_t *request)
{
	size_t ends[TERMS_MOST], count = 0, low = 1, high;
	struct slice record = e->run.record;

	for (size_t i = 1; i <= record.len && count < TERMS_MOST; i++)
		if ((i == record.len || record.p[i] == ' ') && record.p[i - 1] != ' ')
			ends[count++] = i;
	if (count < 2)
		return;
	e->is_probing = true;
	high = count - 1; /* ends[0]: of the version */
	while (low < high) {
		size_t middle = (low + high) / 2;

		if (matches(server, request, slice_sub(record, 0, ends[middle])))
			high = middle;
		else
			low = middle + 1;
	}
	e->is_probing = false;
	record = slice_sub(record, 0, ends[high]);
	set_text(e, slice_trim(slice_from(record, ends[high - 1])));
}

static void set_client(SPF_request_t *request, struct slice ip)
{
	struct in6_addr six;
	struct in_addr four;

	if (ip.len == 4) {
		memcpy(&four, ip.p, 4);
		SPF_request_set_ipv4(request, four);
	} else {
		memcpy(&six, ip.p, 16);
		SPF_request_set_ipv6(request, six);
	}
}

static void run(struct eval *e, SPF_server_t *server, SPF_request_t *request, const char *const texts[4])
{
	SPF_response_t *response;

	set_client(request, e->run.ip);
	SPF_request_set_helo_dom(request, texts[1]);
	SPF_request_set_env_from(request, texts[0]);
	request->cur_dom = texts[2];
	response = interpret(server, request, texts[3]);
	e->reply.result = response ? result_of(response) : SPF_TEMPERROR;
	e->reply.kind = e->is_missing ? SPF_WIRE_MISSING : SPF_WIRE_RESULT;
	if (!e->is_missing && response && SPF_response_reason(response) == SPF_REASON_MECH)
		find_term(e, server, request);
	else if (!e->is_missing && response)
		set_text(e, slice_str(SPF_strerror(SPF_response_errcode(response))));
	if (response)
		SPF_response_free(response);
	request->cur_dom = NULL;
}

int spf_eval(struct slice in, struct buf *reply)
{
	char unknown[] = "unknown";
	struct eval e = {.reply = {.kind = SPF_WIRE_RESULT, .result = SPF_TEMPERROR}};
	SPF_dns_server_t dns = {.lookup = lookup, .name = "given", .hook = &e};
	/* Not SPF_server_new_dns(), which asks the system for this host's name. */
	SPF_server_t server = {.resolver = &dns,
		.rec_dom = unknown,
		.max_dns_mech = SPF_MAX_DNS_MECH,
		.max_dns_ptr = SPF_MAX_DNS_PTR,
		.max_dns_mx = SPF_MAX_DNS_MX};
	SPF_request_t *request;
	struct arena arena;
	const char *texts[4];
	int err;

	arena_init(&arena, ARENA_MOST);
	err = spf_wire_read_run(in, &arena, &e.run);
	if (!err) {
		const struct slice views[] = {e.run.sender, e.run.helo, e.run.domain, e.run.record};

		for (size_t i = 0; i < ARRAY_LEN(views); i++) {
			texts[i] = arena_copy_str(&arena, views[i]);
			if (!texts[i] || strlen(texts[i]) != views[i].len)
				err = ERR_SYNTAX;
		}
	}
	if (!err) {
		request = SPF_request_new(&server);
		if (request) {
			run(&e, &server, request, texts);
			SPF_request_free(request);
		}
		err = spf_wire_write_reply(&e.reply, reply);
	}
	arena_deinit(&arena);
	return err;
}
