/*
 * The verbs about accounts, and accounts made at a login, on a real store and control socket. MAILTIER_ACCOUNTS=100000 makes the list
 * that long and prints the longest turn of the loop.
 */
#include "tests/unit/backend/store/temp_store.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "backend/admin/account_show.h"
#include "backend/admin/accounts.h"
#include "backend/admin/accounts_ensure.h"
#include "backend/admin/classes.h"
#include "backend/admin/domains.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/metrics.h"

#define WAIT_MS 30000

static struct temp_store t;
static struct admin admin;
static struct loop_group *group;
static char path[100];

/* ---- set-up ---- */

struct asked {
	loop_fn *fn;
	_Atomic bool is_done;
};

static void run_asked(void *arg)
{
	struct asked *a = arg;

	a->fn(NULL);
	a->is_done = true;
}

/* Runs fn on the main loop and waits for it. */
static void on_loop(loop_fn *fn)
{
	struct asked a = {.fn = fn};

	loop_post(admin.loop, run_asked, &a);
	for (int i = 0; i < WAIT_MS && !a.is_done; i++)
		usleep(1000);
	assert_true(a.is_done);
}

static void open_control(void *arg)
{
	struct buf why = {0};

	(void)arg;
	if (control_open(admin.loop, "mailtier-backend", path, NULL, &why, &admin.control))
		print_error("%s\n", buf_str_view(&why));
	accounts_register(&admin);
	account_show_register(&admin);
	domains_register(&admin);
	classes_register(&admin);
}

static void close_control(void *arg)
{
	(void)arg;
	control_close(&admin.control);
}

static int setup(void **state)
{
	struct store_work_options o = {0};

	(void)state;
	log_set_level(LOG_ERROR);
	temp_start(&t);
	snprintf(path, sizeof(path), "%s.sock", t.dir);
	assert_int_equal(loop_group_start(2, &group), 0);
	admin.group = group;
	admin.loop = loop_group_at(group, 0);
	admin.store = t.store;
	store_domain_set_built_in(t.store, 7 << 20, 77);
	assert_int_equal(store_work_start(t.store, &o, &admin.work), 0);
	on_loop(open_control);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	on_loop(close_control);
	store_work_stop(&admin.work);
	loop_group_stop(&group);
	claims_deinit();
	temp_end(&t);
	return 0;
}

/* ---- a client ---- */

static int dial(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

/* Words separated by blanks; everything up to the result, heap. */
static char *ask(const char *words)
{
	struct buf line = {0}, got = {0};
	int fd = dial();
	char *text;
	ssize_t n;

	buf_add_str(&line, "{\"argv\":[\"");
	for (; *words; words++) {
		if (*words == ' ')
			buf_add_str(&line, "\",\"");
		else
			buf_add_char(&line, *words);
	}
	buf_add_str(&line, "\"]}\n");
	assert_int_equal(write(fd, line.data, buf_len(&line)), buf_len(&line));
	do {
		struct pollfd p = {fd, POLLIN, 0};
		char *at = buf_reserve(&got, 65536);

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		n = read(fd, at, 65536);
		assert_true(n > 0);
		buf_added(&got, (size_t)n);
	} while (!strstr(buf_str_view(&got), "{\"ok\":") || got.data[got.end - 1] != '\n');
	close(fd);
	buf_deinit(&line);
	text = xmemdup0(buf_view(&got).p, buf_len(&got));
	buf_deinit(&got);
	return text;
}

static void expect(const char *words, const char *want)
{
	char *got = ask(words);

	if (!strstr(got, want))
		fail_msg("%s: %s", words, got);
	free(got);
}

/* ---- tests ---- */

static void make_accounts(unsigned count)
{
	struct store_txn *txn = NULL;

	for (unsigned i = 0; i < count; i++) {
		char address[48];
		uint32_t id;
		struct store_account_new a = {.address = {address, 0}};

		a.address.len = (size_t)snprintf(
			address, sizeof(address), "u%06u@%s.test", i * 7919 % count, i % 2 ? "a" : "b");
		if (!txn)
			assert_int_equal(store_begin_write(t.store, 0, &txn), 0);
		assert_int_equal(store_account_create(txn, &a, &id), 0);
		if (i % 500 == 499 || i + 1 == count)
			assert_int_equal(store_commit(&txn), 0);
	}
}

static unsigned count_of(const char *text, const char *word)
{
	unsigned count = 0;

	while ((text = strstr(text, word))) {
		count++;
		text += strlen(word);
	}
	return count;
}

static void assert_sorted(const char *rows)
{
	char last[64] = "";

	while ((rows = strstr(rows, "\"account\":\""))) {
		char now[64];

		rows += strlen("\"account\":\"");
		snprintf(now, sizeof(now), "%.*s", (int)strcspn(rows, "\""), rows);
		assert_true(strcmp(last, now) < 0);
		strcpy(last, now);
	}
}

static void test_a_long_list_is_whole_sorted_and_holds_no_turn(void **state)
{
	const char *wanted = getenv("MAILTIER_ACCOUNTS");
	unsigned count = wanted ? (unsigned)atoi(wanted) : 2000;
	struct metric *turn = metrics_gauge("mailtier_net_loop_turn_longest_microseconds", "loop=\"0\"", "");
	char want[64], *rows;
	uint64_t began;

	(void)state;
	make_accounts(count);
	metric_set(turn, 0);
	began = clock_mono_ms();
	rows = ask("account list");
	if (wanted)
		print_message("%u accounts: %llu ms, longest turn %lld us\n", count,
			(unsigned long long)(clock_mono_ms() - began), (long long)metric_get(turn));
	snprintf(want, sizeof(want), "\"accounts\":%u", count + 1);
	assert_non_null(strstr(rows, want));
	assert_int_equal(count_of(rows, "{\"row\":"), count + 1);
	assert_sorted(rows);
	free(rows);
	rows = ask("account list a.test");
	assert_int_equal(count_of(rows, "{\"row\":"), count / 2);
	assert_int_equal(count_of(rows, "@b.test"), 0);
	free(rows);
	expect("account list nowhere.test", "\"accounts\":0");
	/* A client that goes amid it leaves nothing behind: the sanitizers would see it. */
	for (int i = 0; i < 5; i++) {
		int fd = dial();

		assert_true(write(fd, "{\"argv\":[\"account\",\"list\"]}\n", 28) == 28);
		close(fd);
	}
	expect("account show u000000@b.test", "u000000@b.test");
}

static void test_set_changes_what_it_names(void **state)
{
	(void)state;
	expect("account add set@x.test --quota 10M --count 100 --alias also@x.test --refuse-mail",
		"\"ok\":true");
	expect("account set set@x.test --quota 20M", "\"ok\":true");
	expect("account show set@x.test", "\"messages_limit\":100");
	expect("account show set@x.test", "\"bytes_limit\":20971520");
	expect("account set also@x.test --count 200", "\"ok\":true");
	expect("account show set@x.test", "\"messages_limit\":200");
	expect("account show set@x.test", "\"bytes_limit\":20971520");
	expect("account set set@x.test --count none", "\"ok\":true");
	expect("account show set@x.test", "\"messages_limit\":0");
	expect("account show set@x.test", "\"bytes_limit\":20971520");
	expect("account show set@x.test", "\"takes_mail\":false");
	expect("account set set@x.test --disable", "\"ok\":true");
	expect("account show set@x.test", "\"takes_mail\":false");
	expect("account show set@x.test", "\"enabled\":false");
	expect("account set also@x.test --enable --take-mail", "\"ok\":true");
	expect("account show set@x.test", "\"takes_mail\":true");
	expect("account show set@x.test", "\"enabled\":true");
	expect("account show set@x.test", "\"bytes_limit\":20971520");
}

static _Atomic int told, failures;

static void on_ensured(void *arg, int err)
{
	(void)arg;
	failures += err != 0;
	told++;
}

static void ensure_some(void *arg)
{
	(void)arg;
	for (int i = 0; i < 20; i++)
		(void)accounts_ensure(&admin, loop_current(), SLICE_LIT("new@x.test"), on_ensured, NULL);
	for (int i = 0; i < 5; i++) {
		struct accounts_ensure *e =
			accounts_ensure(&admin, loop_current(), SLICE_LIT("new@x.test"), on_ensured, NULL);

		accounts_ensure_cancel(&e);
		assert_null(e);
	}
	(void)accounts_ensure(&admin, loop_current(), SLICE_LIT("also@y.test"), on_ensured, NULL);
	(void)accounts_ensure(&admin, loop_current(), SLICE_LIT("no address"), on_ensured, NULL);
}

/* From two loops at once. */
static void test_an_account_is_made_once(void **state)
{
	char *rows;

	(void)state;
	expect("account add old@y.test --alias also@y.test", "\"ok\":true");
	told = failures = 0;
	loop_post(loop_group_at(group, 1), ensure_some, NULL);
	loop_post(loop_group_at(group, 0), ensure_some, NULL);
	for (int i = 0; i < WAIT_MS && told < 44; i++)
		usleep(1000);
	assert_int_equal(told, 44);
	assert_int_equal(failures, 2); /* what is no address */
	rows = ask("account list x.test");
	assert_int_equal(count_of(rows, "\"new@x.test\""), 1);
	free(rows);
	expect("account show new@x.test", "\"bytes_limit\":7340032");
	expect("account show new@x.test", "\"messages_limit\":77");
	expect("account show new@x.test", "\"password\":\"\"");
	expect("account show also@y.test", "\"account\":\"old@y.test\"");
	expect("account remove new@x.test", "\"ok\":true");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_long_list_is_whole_sorted_and_holds_no_turn),
		cmocka_unit_test(test_set_changes_what_it_names),
		cmocka_unit_test(test_an_account_is_made_once),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
