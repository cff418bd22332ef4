/*
 * What DKIM, DMARC and ARC of a message cost, and a way for tests to compare canonical forms with others':
 *
 *	bench_mail_auth verify RESOLVER [CLIENT SENDER CHECKER]
 *	                                   checks the messages whose files are named on standard input, one a line, each as a stage of
 *	                                   content does it; prints "result RESULT..." a message, then the processor time of all. With
 *	                                   CLIENT, an address, SPF too, by CHECKER, the program, whose time is counted
 *	bench_mail_auth sign KEY SELECTOR DOMAIN    puts our DKIM-Signature before each, in place
 *	bench_mail_auth bodies             prints "FILE SIMPLE RELAXED": the bodies' hashes, base64
 *
 * Files hold messages with CRLF line ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "common/base/base64.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/front/mail_auth.h"
#include "common/front/mail_auth_sign.h"
#include "common/front/spf.h"
#include "common/net/dns.h"

#define MESSAGES_MOST 100000
#define MESSAGE_MOST ((size_t)64 << 20)

struct message {
	char *path;
	struct buf text;
	enum smtp_result dkim, dmarc, arc;
	enum spf_result spf;
};

static struct message *messages;
static size_t message_count, message_at;
static struct loop *loop;
static struct mail_auth *check;
static struct spool *spool;
static struct spf_service *spf; /* NULL: SPF is not asked for */
static struct spf_check *spf_checking;
static struct spf_question spf_question;

static void die(const char *what, const char *name)
{
	fprintf(stderr, "bench_mail_auth: %s: %s\n", what, name);
	exit(1);
}

static void read_message(struct message *m, const char *path)
{
	FILE *f = fopen(path, "rb");
	char piece[65536];
	size_t n;

	if (!f)
		die("cannot be read", path);
	m->path = xstrdup(path);
	buf_init(&m->text, MESSAGE_MOST);
	while ((n = fread(piece, 1, sizeof(piece), f)) > 0)
		buf_add(&m->text, piece, n);
	fclose(f);
	if (m->text.failed)
		die("too big", path);
}

static void read_messages(void)
{
	char line[4096];

	messages = xcalloc(MESSAGES_MOST, sizeof(*messages));
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (message_count == MESSAGES_MOST)
			die("too many messages", line);
		read_message(&messages[message_count++], line);
	}
}

static double cpu_seconds(void)
{
	struct rusage r[2];
	double sum = 0;

	getrusage(RUSAGE_SELF, &r[0]);
	getrusage(RUSAGE_CHILDREN, &r[1]);
	for (int i = 0; i < 2; i++)
		sum += (double)(r[i].ru_utime.tv_sec + r[i].ru_stime.tv_sec) +
		       (double)(r[i].ru_utime.tv_usec + r[i].ru_stime.tv_usec) / 1e6;
	return sum;
}

/* ---- verify ---- */

static void next_message(void *arg);

static void on_checked(void *arg)
{
	struct message *m = arg;
	const struct mail_auth_plan *plan = mail_auth_results(check);

	m->dkim = mail_auth_best(plan);
	m->dmarc = mail_auth_dmarc(check)->result;
	m->arc = plan->arc->result;
	mail_auth_free(&check);
	spool_free(&spool);
	loop_defer(loop, next_message, NULL);
}

static void start_content(struct message *m)
{
	struct slice text = buf_view(&m->text);
	struct slice header = slice_sub(text, 0, header_length(text));

	spool = spool_new(1 << 20, 0);
	if (spool_add(spool, text) != 0)
		die("no spool", m->path);
	check = mail_auth_start(loop, &mail_auth_dns_real,
		&(struct mail_auth_input){.header = header,
			.spool = spool,
			.body_at = header.len,
			.wants = {.dkim = true, .arc = true, .rsa_least = 1024, .now = clock_wall_s()},
			.dmarc = true,
			.dns_timeout_ms = 5000},
		on_checked, m);
}

static void on_spf(void *arg, const struct spf_answer *answer)
{
	struct message *m = arg;

	spf_checking = NULL;
	m->spf = answer->result;
	start_content(m);
}

static void next_message(void *arg)
{
	struct message *m;

	(void)arg;
	if (message_at == message_count) {
		loop_stop(loop);
		return;
	}
	m = &messages[message_at++];
	if (spf)
		spf_check(spf, loop, &spf_question, 5000, on_spf, m, &spf_checking);
	else
		start_content(m);
}

/* CLIENT SENDER CHECKER */
static void start_spf(char **words)
{
	const struct spf_options options = {.program = words[2], .loops = 1, .least = 1, .most = 1};

	if (addr_parse(slice_str(words[0]), 25, &spf_question.client) != 0)
		die("no address", words[0]);
	spf_question.helo = SLICE_LIT("client.example");
	spf_question.sender = slice_str(words[1]);
	spf = spf_service_new(&options);
}

static void verify(const char *resolver, char **spf_words)
{
	struct dns_options options = {.servers = resolver};
	struct buf why = {0};
	double before;
	uint64_t began;

	if (dns_init(&options, &why) != 0 || loop_new(&loop) != 0 || mail_auth_workers_start(2) != 0)
		die("cannot start", buf_str_view(&why));
	if (spf_words)
		start_spf(spf_words);
	before = cpu_seconds();
	began = clock_mono_ms();
	loop_defer(loop, next_message, NULL);
	loop_run(loop);
	if (spf)
		spf_service_free(&spf);
	while (wait(NULL) > 0)
		;
	before = cpu_seconds() - before;
	for (size_t i = 0; i < message_count; i++)
		printf("result %s %s %s %s %s\n", smtp_facts_word(messages[i].dkim),
			smtp_facts_word(messages[i].dmarc), smtp_facts_word(messages[i].arc),
			spf_words ? spf_result_word(messages[i].spf) : "-", messages[i].path);
	printf("cpu %.6f wall %.3f messages %zu\n", before, (double)(clock_mono_ms() - began) / 1e3,
		message_count);
	mail_auth_workers_end();
	mail_auth_workers_free();
	loop_free(&loop);
	dns_deinit();
}

/* ---- sign ---- */

static void sign_one(struct message *m, struct mail_auth_keys *keys)
{
	struct slice text = buf_view(&m->text), header = slice_sub(text, 0, header_length(text));
	struct mail_auth_sign job;
	FILE *f;

	spool = spool_new(1 << 20, 0);
	if (spool_add(spool, text) != 0)
		die("no spool", m->path);
	mail_auth_sign_init(&job, keys, header, spool, header.len, clock_wall_s());
	if (job.why_not || mail_auth_sign_run(&job) != 0)
		die(job.why_not ? job.why_not : "not signed", m->path);
	f = fopen(m->path, "wb");
	if (!f)
		die("cannot be written", m->path);
	for (unsigned i = 0; i < job.count; i++)
		fprintf(f, "%.*s: %.*s\r\n", SLICE_ARG(job.made[i].name), SLICE_ARG(job.made[i].value));
	fwrite(text.p, 1, text.len, f);
	fclose(f);
	mail_auth_sign_deinit(&job);
	spool_free(&spool);
}

static void sign(const char *path, const char *selector, const char *domain)
{
	struct mail_auth_keys *keys = xcalloc(1, sizeof(*keys));
	struct slice name = slice_str(domain);
	struct message pem = {0};

	read_message(&pem, path);
	keys->refs = 1;
	keys->arena = xcalloc(1, sizeof(*keys->arena));
	keys->list = xcalloc(1, sizeof(*keys->list));
	keys->count = 1;
	keys->list[0] = (struct mail_auth_signing_key){.title = "bench",
		.domains = &name,
		.domain_count = 1,
		.selector = slice_str(selector),
		.is_header_relaxed = true,
		.is_body_relaxed = true};
	if (signature_key_private(buf_view(&pem.text), &keys->list[0].key) != 0)
		die("no key", path);
	for (size_t i = 0; i < message_count; i++)
		sign_one(&messages[i], keys);
	mail_auth_keys_unref(&keys);
	buf_deinit(&pem.text);
	free(pem.path);
}

/* ---- bodies ---- */

static void bodies(void)
{
	for (size_t i = 0; i < message_count; i++) {
		struct slice text = buf_view(&messages[i].text);
		struct mail_auth_body body;
		struct buf hashes[MAIL_AUTH_FORMS] = {{0}};

		spool = spool_new(1 << 20, 0);
		if (spool_add(spool, text) != 0)
			die("no spool", messages[i].path);
		mail_auth_body_init(&body, spool, header_length(text));
		for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++)
			body.is_wanted[f] = true;
		if (mail_auth_body_run(&body) != 0)
			die("cannot be read", messages[i].path);
		for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++)
			base64_encode(&hashes[f], slice_of(body.hash[f], DKIM_HASH_LEN));
		printf("%s %s %s\n", messages[i].path, buf_str_view(&hashes[MAIL_AUTH_SIMPLE]),
			buf_str_view(&hashes[MAIL_AUTH_RELAXED]));
		for (unsigned f = 0; f < MAIL_AUTH_FORMS; f++)
			buf_deinit(&hashes[f]);
		mail_auth_body_deinit(&body);
		spool_free(&spool);
	}
}

int main(int argc, char **argv)
{
	read_messages();
	if ((argc == 3 || argc == 6) && strcmp(argv[1], "verify") == 0)
		verify(argv[2], argc == 6 ? argv + 3 : NULL);
	else if (argc == 5 && strcmp(argv[1], "sign") == 0)
		sign(argv[2], argv[3], argv[4]);
	else if (argc == 2 && strcmp(argv[1], "bodies") == 0)
		bodies();
	else
		die("usage", "verify RESOLVER [CLIENT SENDER CHECKER] | sign KEY SELECTOR DOMAIN | bodies");
	for (size_t i = 0; i < message_count; i++) {
		buf_deinit(&messages[i].text);
		free(messages[i].path);
	}
	free(messages);
	return 0;
}
