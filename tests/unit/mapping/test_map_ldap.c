/* LDAP maps against a real slapd: what users get, when it is well, stopped, gone and back. Skipped without slapd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/net/timer.h"
#include "mapping/usermap.h"
#include "tests/unit/slapd.h"

#define WAIT_MS 15000
#define NOWHERE (-1)

static const char *const backends[] = {"b1", "b2", NULL};
static const char *const only_corp[] = {"corp.example", NULL};
static const char *const only_other[] = {"other.example", NULL};
static struct slapd slapd, second;

struct world {
	struct loop *loop;
	struct work_pool *pool;
	struct usermap_set *set;
	struct usermap_chain *chain;
	struct usermap_answer answer;
	unsigned answers;
	bool is_over;
	char file[80];
	/* what is asked for */
	enum usermap_type type;
	char uri[2][60];
	const char *uris[3], *chain_names[4];
	struct directory_connector connector;
	struct usermap_options maps[2];
};

static int begin(void **state)
{
	struct world *w;

	if (!slapd_is_there())
		return 0;
	w = xcalloc(1, sizeof(*w));
	assert_int_equal(loop_new(&w->loop), 0);
	assert_int_equal(work_pool_new("test-hash", 1, 100, &w->pool), 0);
	snprintf(w->uri[0], sizeof(w->uri[0]), "ldap://127.0.0.1:%d", slapd.port);
	w->uris[0] = w->uri[0];
	w->type = USERMAP_LDAP_PASSWORD;
	w->connector =
		(struct directory_connector){.directory = {.name = "corp",
						     .uris = w->uris,
						     .client = {.verify = true,
							     .bind = LDAP_CLIENT_SIMPLE,
							     .bind_dn = SLAPD_READER,
							     .password = SLICE_LIT(SLAPD_READER_PASSWORD)},
						     .timeout_ms = 1000,
						     .connect_timeout_ms = 1000,
						     .health_ms = 500,
						     .connections = 2,
						     .bind_connections = 2,
						     .in_flight = 100},
			.base = SLAPD_BASE,
			.filter = "mail=%e",
			.address_filter = "(|(mail=%e)(mailLocalAddress=%e))",
			.host_attribute = "mailHost",
			.password_attribute = "userPassword",
			.account_attribute = "mail"};
	w->maps[0] = (struct usermap_options){.name = "dir",
		.connector = "corp",
		.positive_ms = 60000,
		.negative_ms = 10000,
		.stale_ms = 3600000,
		.cache_entries = 1000};
	w->chain_names[0] = "dir";
	*state = w;
	return 0;
}

static struct world *world_of(void **state)
{
	if (!*state) {
		print_message("slapd is not installed\n");
		skip();
	}
	return *state;
}

static void on_stop(void *arg)
{
	loop_stop(arg);
}

static void run_for(struct world *w, unsigned ms)
{
	struct timer t;

	timer_init(&t, on_stop, w->loop);
	timer_set(&t, w->loop, ms);
	loop_run(w->loop);
	timer_stop(&t);
}

static void set_open(struct world *w)
{
	struct usermap_config c = {.maps = w->maps,
		.count = w->maps[1].name ? 2 : 1,
		.connectors = &w->connector,
		.connector_count = 1,
		.backends = backends,
		.credential_lifetime_ms = 60000,
		.credential_entries = 1000};
	struct buf why = {0};

	w->maps[0].type = w->type;
	if (usermap_set_open(&c, w->loop, w->pool, &why, &w->set))
		fail_msg("%s", buf_str_view(&why));
	assert_int_equal(usermap_chain_new(w->set, w->chain_names, &w->chain), 0);
	buf_deinit(&why);
}

static int end(void **state)
{
	struct world *w = *state;

	if (!w)
		return 0;
	usermap_chain_unref(&w->chain);
	usermap_set_close(&w->set);
	run_for(w, 20);
	work_pool_free(&w->pool);
	run_for(w, 20);
	loop_free(&w->loop);
	if (w->file[0])
		unlink(w->file);
	free(w);
	*state = NULL;
	return 0;
}

static void on_answer(void *arg, const struct usermap_answer *answer)
{
	struct world *w = arg;

	w->answer = *answer;
	w->answers++;
	loop_stop(w->loop);
}

static struct usermap_answer ask_bytes(
	struct world *w, const char *name, struct slice password, bool check, bool is_address)
{
	struct usermap_question q = {.service = SLICE_LIT("imap"),
		.name = slice_str(name),
		.shown = check ? USERMAP_SHOWN_PASSWORD : USERMAP_SHOWN_NONE,
		.is_address = is_address,
		.password = password};
	struct usermap_request *r = NULL;
	struct usermap_answer a = {0};

	if (usermap_lookup(w->chain, &q, w->loop, on_answer, w, &a, &r))
		return a;
	w->answers = 0;
	for (uint64_t until = clock_mono_ms() + WAIT_MS; !w->answers;) {
		run_for(w, 100);
		if (clock_mono_ms() > until)
			fail_msg("%s: no answer", name);
	}
	return w->answer;
}

static struct usermap_answer ask(struct world *w, const char *name, const char *password)
{
	return ask_bytes(w, name, slice_str(password), password != NULL, false);
}

static struct usermap_status status_of(struct world *w)
{
	struct usermap_status s;

	usermap_set_status(w->set, 0, &s);
	return s;
}

/* Runs until the connector is up (or down). */
static void wait_up(struct world *w, bool up)
{
	for (uint64_t until = clock_mono_ms() + WAIT_MS; status_of(w).usable != up;) {
		run_for(w, 50);
		if (clock_mono_ms() > until)
			fail_msg("connector does not get %s: %s", up ? "up" : "down", status_of(w).error);
	}
}

static struct usermap_answer ask_address(struct world *w, const char *name)
{
	return ask_bytes(w, name, slice_of(NULL, 0), false, true);
}

static void file_map(struct world *w, const char *text)
{
	FILE *f;

	snprintf(w->file, sizeof(w->file), "%s/users", slapd.dir);
	f = fopen(w->file, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	w->maps[1] = (struct usermap_options){.name = "file", .file = w->file, .max_shrink = 20};
	w->chain_names[1] = "file";
}

/* ---- users ---- */

static void check_users(struct world *w, enum usermap_type type)
{
	static const struct {
		const char *name, *password;
		enum usermap_verdict want;
		int kind; /* NOWHERE: none */
		const char *backend, *account;
	} rows[] = {
		{"alice@corp.example", "alice-Pw", USERMAP_YES, USERMAP_BACKEND, "b1", "alice@corp.example"},
		{"alice@corp.example", "wrong", USERMAP_WRONG_CREDENTIAL, 0, "", ""},
		{"alice@corp.example", "", USERMAP_WRONG_CREDENTIAL, 0, "", ""},
		{"alice+news@corp.example", "alice-Pw", USERMAP_YES, USERMAP_BACKEND, "b1",
			"alice@corp.example"},
		{"bob@corp.example", "bob-Pw", USERMAP_YES, USERMAP_HOST, "10.0.0.12", "bob@corp.example"},
		{"bob@corp.example", "bob-pw", USERMAP_WRONG_CREDENTIAL, 0, "", ""},
		{"bob@corp.example", NULL, USERMAP_YES, USERMAP_HOST, "10.0.0.12", "bob@corp.example"},
		{"nobody@corp.example", "x", USERMAP_NO_SUCH_USER, 0, "", ""},
		{"nobody@corp.example", NULL, USERMAP_NO_SUCH_USER, 0, "", ""},
		{"nohost@corp.example", "nohost-Pw", USERMAP_YES, NOWHERE, "", "nohost@corp.example"},
		{"nohost@corp.example", "wrong", USERMAP_WRONG_CREDENTIAL, 0, "", ""},
		{"nopass@corp.example", "x", USERMAP_WRONG_CREDENTIAL, 0, "", ""},
		{"badhost@corp.example", "badhost-Pw", USERMAP_NOT_NOW, 0, "", ""},
		{"twin@corp.example", "twin1-Pw", USERMAP_NOT_NOW, 0, "", ""},
	};

	w->type = type;
	set_open(w);
	for (unsigned round = 0; round < 2; round++) { /* the second time from memory */
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			struct usermap_answer a = ask(w, rows[i].name, rows[i].password);

			if (a.verdict != rows[i].want)
				fail_msg("%s %s: verdict %d, want %d", rows[i].name,
					rows[i].password ? rows[i].password : "-", a.verdict, rows[i].want);
			if (a.verdict != USERMAP_YES)
				continue;
			assert_int_equal(a.target_count, rows[i].kind != NOWHERE);
			assert_string_equal(a.account, rows[i].account);
			assert_int_equal(a.checked, rows[i].password != NULL);
			if (a.target_count) {
				assert_int_equal(a.targets[0].kind, rows[i].kind);
				assert_string_equal(a.targets[0].name, rows[i].backend);
			}
		}
	}
}

static void test_password_map(void **state)
{
	check_users(world_of(state), USERMAP_LDAP_PASSWORD);
}

static void test_bind_map(void **state)
{
	check_users(world_of(state), USERMAP_LDAP_BIND);
}

static void test_several_may_mean_the_first(void **state)
{
	struct world *w = world_of(state);

	w->connector.several = DIRECTORY_SEVERAL_FIRST;
	set_open(w);
	assert_int_equal(ask(w, "twin@corp.example", "twin1-Pw").verdict, USERMAP_YES);
}

static void test_addresses_have_their_own_filter(void **state)
{
	struct world *w = world_of(state);
	struct usermap_answer a;

	set_open(w);
	assert_int_equal(ask(w, "sales@corp.example", NULL).verdict, USERMAP_NO_SUCH_USER);
	a = ask_bytes(w, "sales@corp.example", slice_of(NULL, 0), false, true);
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_string_equal(a.account, "alice@corp.example");
	assert_string_equal(a.targets[0].name, "b1");
}

/* One value may be a list; of several values the server's order counts. */
static void test_hosts_are_an_ordered_list(void **state)
{
	static const char *const want[] = {"b2", "10.0.0.12", "b1"};
	struct world *w = world_of(state);
	struct usermap_answer a;

	set_open(w);
	for (unsigned round = 0; round < 2; round++) {
		a = ask(w, "list@corp.example", NULL);
		assert_int_equal(a.verdict, USERMAP_YES);
		assert_int_equal(a.target_count, 3);
		for (unsigned i = 0; i < 3; i++)
			assert_string_equal(a.targets[i].name, want[i]);
	}
	/* One good host does not make a list good. */
	assert_int_equal(ask(w, "halfbad@corp.example", NULL).verdict, USERMAP_NOT_NOW);
}

static void test_hosts_may_be_several_values(void **state)
{
	struct world *w = world_of(state);
	struct usermap_answer a;

	w->connector.host_attribute = "description";
	set_open(w);
	a = ask(w, "values@corp.example", NULL);
	assert_int_equal(a.target_count, 2);
	assert_string_equal(a.targets[0].name, "b2");
	assert_string_equal(a.targets[1].name, "b1");
}

static void test_flags(void **state)
{
	static const struct {
		const char *name, *password;
		enum usermap_verdict login, address;
		bool send_only;
	} rows[] = {
		{"gone@corp.example", "gone-Pw", USERMAP_WRONG_CREDENTIAL, USERMAP_YES, false},
		{"gone@corp.example", NULL, USERMAP_WRONG_CREDENTIAL, USERMAP_YES, false},
		{"adgone@corp.example", "adgone-Pw", USERMAP_WRONG_CREDENTIAL, USERMAP_YES, false},
		{"adwell@corp.example", "adwell-Pw", USERMAP_YES, USERMAP_YES, false},
		{"sender@corp.example", "sender-Pw", USERMAP_YES, USERMAP_YES, true},
		{"nohost@corp.example", "nohost-Pw", USERMAP_YES, USERMAP_YES, false},
	};
	struct world *w = world_of(state);

	w->connector.flags_attribute = "description";
	set_open(w);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		struct usermap_answer a = ask(w, rows[i / 2].name, rows[i / 2].password);

		assert_int_equal(a.verdict, rows[i / 2].login);
		if (a.verdict == USERMAP_YES)
			assert_int_equal(a.send_only, rows[i / 2].send_only);
		assert_int_equal(ask_address(w, rows[i / 2].name).verdict, rows[i / 2].address);
	}
}

/* An alias, or a login name that is not the address, is routed by a later map under the account's name. */
static void test_a_file_is_asked_for_the_account(void **state)
{
	struct world *w = world_of(state);
	struct usermap_answer a;

	w->connector.host_attribute = "";
	w->connector.filter = "(|(uid=%u)(mail=%e))";
	file_map(w, "sales@corp.example b1\nlogin@corp.example b1\nalice@corp.example b2\n# end 3\n");
	set_open(w);
	a = ask_address(w, "sales@corp.example");
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_string_equal(a.account, "alice@corp.example");
	assert_string_equal(a.targets[0].name, "b2");
	a = ask(w, "alice@typed.example", "alice-Pw");
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_string_equal(a.account, "alice@corp.example");
	assert_string_equal(a.targets[0].name, "b2");
}

static void test_security_06_names_cannot_inject(void **state)
{
	static const char *const names[] = {"*", "*@corp.example", "alice@corp.example)(mail=*", "*)(uid=*",
		"alice@corp.example)(|(mail=*)", "a\\2a@corp.example", "alic\\65@corp.example", "(", ")",
		"\\", "o.paren*@corp.example"};
	struct world *w = world_of(state);
	struct usermap_answer a;

	set_open(w);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		a = ask(w, names[i], "alice-Pw");
		if (a.verdict != USERMAP_NO_SUCH_USER)
			fail_msg("%s: verdict %d", names[i], a.verdict);
	}
	assert_int_equal(ask(w, "o.paren(x)*@corp.example", "star-Pw").verdict, USERMAP_YES);
}

static void test_security_06_empty_and_nul_passwords_never_bind(void **state)
{
	struct world *w = world_of(state);
	struct slice nul = SLICE_LIT("alice-Pw\0x"), only_nul = SLICE_LIT("\0");

	w->type = USERMAP_LDAP_BIND;
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "").verdict, USERMAP_WRONG_CREDENTIAL);
	assert_int_equal(
		ask_bytes(w, "alice@corp.example", nul, true, false).verdict, USERMAP_WRONG_CREDENTIAL);
	assert_int_equal(
		ask_bytes(w, "alice@corp.example", only_nul, true, false).verdict, USERMAP_WRONG_CREDENTIAL);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
}

/* ---- chains ---- */

static void test_directory_authenticates_and_a_file_routes(void **state)
{
	struct world *w = world_of(state);
	struct usermap_answer a;

	w->type = USERMAP_LDAP_BIND;
	w->connector.host_attribute = "";
	file_map(w, "alice@corp.example b2\n@corp.example b1\n# end 2\n");
	set_open(w);
	a = ask(w, "alice@corp.example", "alice-Pw");
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_true(a.checked);
	assert_string_equal(a.targets[0].name, "b2");
	assert_string_equal(a.map, "file");
	assert_int_equal(ask(w, "alice@corp.example", "wrong").verdict, USERMAP_WRONG_CREDENTIAL);
	/* Nobody can check this one: the file routes only. */
	assert_int_equal(ask(w, "ghost@corp.example", "x").verdict, USERMAP_WRONG_CREDENTIAL);
}

static void test_a_user_without_a_host_may_only_send(void **state)
{
	struct world *w = world_of(state);
	struct usermap_answer a;

	w->maps[0].send_only = true;
	set_open(w);
	a = ask(w, "nohost@corp.example", "nohost-Pw");
	assert_int_equal(a.verdict, USERMAP_YES);
	assert_int_equal(a.target_count, 0);
	assert_true(a.checked && a.send_only);
}

/* ---- TLS ---- */

static void check_tls(struct world *w, const char *ca, bool ldaps, const char *host, bool want)
{
	char path[100];

	snprintf(path, sizeof(path), "%s/%s", slapd.dir, ca);
	snprintf(w->uri[0], sizeof(w->uri[0]), "ldap%s://%s:%d", ldaps ? "s" : "", host,
		ldaps ? slapd.tls_port : slapd.port);
	w->connector.directory.client.ca = path;
	w->connector.directory.client.start_tls = !ldaps;
	set_open(w);
	if (want) {
		assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	} else {
		assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_NOT_NOW);
		assert_non_null(strstr(status_of(w).error, "TLS"));
	}
}

static void test_starttls_is_verified(void **state)
{
	check_tls(world_of(state), "cert.pem", false, "127.0.0.1", true);
}

static void test_ldaps_is_verified(void **state)
{
	check_tls(world_of(state), "cert.pem", true, "127.0.0.1", true);
}

static void test_starttls_of_a_stranger_is_refused(void **state)
{
	check_tls(world_of(state), "other.pem", false, "127.0.0.1", false);
}

static void test_ldaps_of_a_stranger_is_refused(void **state)
{
	check_tls(world_of(state), "other.pem", true, "127.0.0.1", false);
}

static void test_ldaps_of_another_name_is_refused(void **state)
{
	check_tls(world_of(state), "cert.pem", true, "127.0.0.2", false);
}

static void test_a_wrong_service_password_is_not_now(void **state)
{
	struct world *w = world_of(state);

	w->connector.directory.client.password = slice_str("wrong");
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_NOT_NOW);
	assert_non_null(strstr(status_of(w).error, "bind"));
}

/* ---- faults ---- */

static void test_a_stopped_server_is_not_now_in_time(void **state)
{
	struct world *w = world_of(state);
	uint64_t began, longest = 0;

	w->type = USERMAP_LDAP_BIND;
	w->maps[0].domains = only_corp;
	w->maps[0].positive_ms = 1;
	file_map(w, "@other.example b1\n# end 1\n");
	w->maps[1].domains = only_other;
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_true(slapd_halt(&slapd));
	began = clock_mono_ms();
	assert_int_equal(ask(w, "bob@corp.example", "bob-Pw").verdict, USERMAP_NOT_NOW);
	longest = clock_mono_ms() - began;
	assert_in_range(longest, 0, 2500);
	/* Known before: stale. Other domains: at once. */
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_int_equal(ask(w, "alice@corp.example", "wrong").verdict, USERMAP_NOT_NOW);
	began = clock_mono_ms();
	assert_int_equal(ask(w, "x@other.example", NULL).verdict, USERMAP_YES);
	assert_in_range(clock_mono_ms() - began, 0, 50);
	wait_up(w, false);
	assert_true(slapd_go(&slapd));
	wait_up(w, true);
	assert_int_equal(ask(w, "bob@corp.example", "bob-Pw").verdict, USERMAP_YES);
}

static void test_a_killed_server_leaves_stale_answers(void **state)
{
	struct world *w = world_of(state);

	w->maps[0].positive_ms = 1;
	w->maps[0].stale_ms = 2000;
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	slapd_kill(&slapd);
	wait_up(w, false);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_int_equal(ask(w, "alice@corp.example", "wrong").verdict, USERMAP_NOT_NOW);
	assert_int_equal(ask(w, "bob@corp.example", "bob-Pw").verdict, USERMAP_NOT_NOW);
	run_for(w, 2100);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_NOT_NOW);
	assert_true(slapd_start(&slapd));
	wait_up(w, true);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
}

static void test_failover_and_return(void **state)
{
	struct world *w = world_of(state);

	w->maps[0].positive_ms = w->maps[0].negative_ms = w->maps[0].stale_ms = 0;
	snprintf(w->uri[1], sizeof(w->uri[1]), "ldap://127.0.0.1:%d", second.port);
	w->uris[1] = w->uri[1];
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_string_equal(status_of(w).server, w->uri[0]);
	slapd_kill(&slapd);
	run_for(w, 100);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_string_equal(status_of(w).server, w->uri[1]);
	assert_true(slapd_start(&slapd));
	for (uint64_t until = clock_mono_ms() + WAIT_MS; strcmp(status_of(w).server, w->uri[0]);) {
		run_for(w, 50);
		assert_true(clock_mono_ms() < until);
	}
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
}

/* ---- memory ---- */

static void modify(const char *text)
{
	char command[600];
	FILE *f;

	snprintf(command, sizeof(command), "%s/change.ldif", slapd.dir);
	f = fopen(command, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	slapd_kill(&slapd);
	snprintf(command, sizeof(command),
		"/usr/sbin/slapmodify -f %s/slapd.conf -l %s/change.ldif >/dev/null 2>&1", slapd.dir,
		slapd.dir);
	assert_true(slapd_run(command));
	assert_true(slapd_start(&slapd));
}

static void set_password(const char *password)
{
	char text[300];

	snprintf(text, sizeof(text),
		"dn: uid=alice," SLAPD_PEOPLE
		"\nchangetype: modify\nreplace: userPassword\nuserPassword: %s\n",
		password);
	modify(text);
}

static void test_a_changed_password_and_flush(void **state)
{
	struct world *w = world_of(state);

	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_int_equal(ask(w, "bob@corp.example", NULL).verdict, USERMAP_YES);
	set_password("new-Pw");
	run_for(w, 100); /* in which the end of the old server is noticed */
	wait_up(w, true);
	/* The old one is remembered for positive-ttl; the new one is another question. */
	assert_int_equal(ask(w, "alice@corp.example", "new-Pw").verdict, USERMAP_YES);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_int_equal(status_of(w).entries, 3);
	usermap_set_flush(w->set, SLICE_LIT("alice@corp.example"));
	assert_int_equal(status_of(w).entries, 1);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_WRONG_CREDENTIAL);
	usermap_set_flush(w->set, slice_of(NULL, 0));
	assert_int_equal(status_of(w).entries, 0);
	set_password("alice-Pw");
}

/* The directory is there and shows a password of another kind: what was right before is right no more. */
static void security_07_what_the_directory_has_changed_is_not_stale(void **state)
{
	static const char *const others[] = {"{UNKNOWN}x", "{SSHA}", "{CRYPT}$1$"};
	struct world *w = world_of(state);

	w->type = USERMAP_LDAP_PASSWORD;
	w->maps[0].positive_ms = w->maps[0].negative_ms = 0;
	set_open(w);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	for (size_t i = 0; i < ARRAY_LEN(others); i++) {
		set_password(others[i]);
		run_for(w, 100);
		wait_up(w, true);
		assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_NOT_NOW);
	}
	/* But while it is away. */
	slapd_kill(&slapd);
	run_for(w, 100);
	assert_int_equal(ask(w, "alice@corp.example", "alice-Pw").verdict, USERMAP_YES);
	assert_true(slapd_start(&slapd));
	set_password("alice-Pw");
}

/* What is stored is fetched anew each time, never remembered, and who is proven is only looked up. */
static void test_fetched_and_proven(void **state)
{
	struct world *w = world_of(state);
	struct secret stored = {0};
	struct usermap_question q = {
		.service = SLICE_LIT("imap"), .shown = USERMAP_SHOWN_FETCH, .stored_out = &stored};
	static const struct {
		const char *name;
		enum usermap_verdict want;
		bool has_stored;
	} rows[] = {
		{"alice@corp.example", USERMAP_YES, true},
		{"nopass@corp.example", USERMAP_YES, false},
		{"nobody@corp.example", USERMAP_NO_SUCH_USER, false},
		{"twin@corp.example", USERMAP_NOT_NOW, false},
	};

	w->type = USERMAP_LDAP_PASSWORD;
	set_open(w);
	for (size_t i = 0; i < 2 * ARRAY_LEN(rows); i++) {
		struct usermap_request *r = NULL;
		struct usermap_answer a = {0};
		size_t held = usermap_set_count(w->set) ? status_of(w).entries : 0;

		q.name = slice_str(rows[i / 2].name);
		q.shown = USERMAP_SHOWN_FETCH;
		w->answers = 0;
		assert_int_equal(usermap_lookup(w->chain, &q, w->loop, on_answer, w, &a, &r), 0);
		for (uint64_t until = clock_mono_ms() + WAIT_MS; !w->answers && clock_mono_ms() < until;)
			run_for(w, 20);
		assert_int_equal(w->answers, 1);
		assert_int_equal(w->answer.verdict, rows[i / 2].want);
		assert_false(w->answer.checked);
		assert_int_equal(stored.len > 0, rows[i / 2].has_stored);
		if (stored.len)
			assert_int_equal(stored.data[stored.len - 1], 0);
		assert_int_equal(status_of(w).entries, held);
	}
	q.name = SLICE_LIT("alice@corp.example");
	for (unsigned i = 0; i < 2; i++) {
		struct usermap_request *r = NULL;
		struct usermap_answer a = {0};

		q.shown = USERMAP_SHOWN_PROVEN;
		w->answers = 0;
		if (!usermap_lookup(w->chain, &q, w->loop, on_answer, w, &a, &r)) {
			assert_int_equal(i, 0);
			for (uint64_t until = clock_mono_ms() + WAIT_MS;
				!w->answers && clock_mono_ms() < until;)
				run_for(w, 20);
			a = w->answer;
		}
		assert_int_equal(a.verdict, USERMAP_YES);
		assert_true(a.checked);
		assert_string_equal(a.targets[0].name, "b1");
	}
	/* A password that is wrong stays wrong beside a proven name that is remembered. */
	assert_int_equal(ask(w, "alice@corp.example", "wrong").verdict, USERMAP_WRONG_CREDENTIAL);
	secret_deinit(&stored);
}

static void on_count(void *arg, const struct usermap_answer *answer)
{
	struct world *w = arg;

	if (answer->verdict == USERMAP_YES)
		w->answers++;
}

static void test_many_ask_and_some_give_up(void **state)
{
	struct world *w = world_of(state);
	struct usermap_question q = {.service = SLICE_LIT("imap"),
		.shown = USERMAP_SHOWN_PASSWORD,
		.password = SLICE_LIT("alice-Pw")};
	struct usermap_request *r[300] = {0};
	struct usermap_answer a;
	char name[300][40];

	w->connector.directory.in_flight = 3;
	w->connector.directory.timeout_ms = 30000;
	w->type = USERMAP_LDAP_BIND;
	set_open(w);
	for (unsigned i = 0; i < 300; i++) {
		/* Details make questions differ; a third asks the same. */
		snprintf(name[i], sizeof(name[i]), i % 3 ? "alice+%u@corp.example" : "alice@corp.example", i);
		q.name = slice_str(name[i]);
		assert_int_equal(usermap_lookup(w->chain, &q, w->loop, on_count, w, &a, &r[i]), 0);
	}
	for (unsigned i = 0; i < 300; i += 2)
		usermap_cancel(&r[i]);
	for (uint64_t until = clock_mono_ms() + WAIT_MS; w->answers < 150 && clock_mono_ms() < until;)
		run_for(w, 20);
	assert_int_equal(w->answers, 150);
}

static int servers_begin(void **state)
{
	(void)state;
	return slapd_is_there() && (!slapd_new(&slapd) || !slapd_new(&second));
}

static int servers_end(void **state)
{
	(void)state;
	if (slapd_is_there()) {
		slapd_free(&slapd);
		slapd_free(&second);
	}
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_password_map),
		TEST(test_bind_map),
		TEST(test_several_may_mean_the_first),
		TEST(test_addresses_have_their_own_filter),
		TEST(test_hosts_are_an_ordered_list),
		TEST(test_flags),
		TEST(test_a_file_is_asked_for_the_account),
		TEST(test_hosts_may_be_several_values),
		TEST(test_security_06_names_cannot_inject),
		TEST(test_security_06_empty_and_nul_passwords_never_bind),
		TEST(test_directory_authenticates_and_a_file_routes),
		TEST(test_a_user_without_a_host_may_only_send),
		TEST(test_starttls_is_verified),
		TEST(test_ldaps_is_verified),
		TEST(test_starttls_of_a_stranger_is_refused),
		TEST(test_ldaps_of_a_stranger_is_refused),
		TEST(test_ldaps_of_another_name_is_refused),
		TEST(test_a_wrong_service_password_is_not_now),
		TEST(test_a_stopped_server_is_not_now_in_time),
		TEST(test_a_killed_server_leaves_stale_answers),
		TEST(security_07_what_the_directory_has_changed_is_not_stale),
		TEST(test_failover_and_return),
		TEST(test_fetched_and_proven),
		TEST(test_a_changed_password_and_flush),
		TEST(test_many_ask_and_some_give_up),
	};

	return cmocka_run_group_tests(tests, servers_begin, servers_end);
}
