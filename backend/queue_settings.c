#include "backend/queue_settings.h"

#include <string.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/conf/conf_file.h"
#include "common/proto/dsn.h"

#define SECTION "queue"
#define KEY_FILE_MOST 4096
#define DAY_MS UINT64_C(86400000)

const struct conf_key queue_settings_keys[] = {
	{SECTION, "retry-first", CONF_DURATION, CONF_RELOAD, "5m", 1000, 86400000, NULL,
		"From the first try to the second; doubles with each further one", NULL},
	{SECTION, "retry-most", CONF_DURATION, CONF_RELOAD, "8h", 1000, 604800000, NULL,
		"Between two tries, at most", NULL},
	{SECTION, "tries", CONF_INT, CONF_RELOAD, "20", 1, 10000, NULL,
		"Tries of a recipient; then the message comes back to its sender. Those that were put off "
		"because the whole "
		"destination cannot be reached count as none",
		NULL},
	{SECTION, "lifetime", CONF_DURATION, CONF_RELOAD, "5d", 60000, 2592000000, NULL,
		"Age at which a message comes back, however often it was tried", NULL},
	{SECTION, "delay-warning", CONF_DURATION, CONF_RELOAD, "4h", 0, 2592000000, NULL,
		"Age at which its sender is told, once, that it is still waiting; 0: never", NULL},
	{SECTION, "window", CONF_INT, CONF_RELOAD, "2000", 20, 100000, NULL,
		"Recipients of each slot in memory; one next hop may have a quarter of what is free of it",
		NULL},
	{SECTION, "hops", CONF_INT, CONF_RELOAD, "50", 5, 1000, NULL,
		"Received and Delivered-To fields: a message with more goes in circles, and comes back",
		NULL},
	{SECTION, "notice-size", CONF_SIZE, CONF_RELOAD, "64K", 0, 16777216, NULL,
		"Longer messages come back by their header alone", NULL},
	{SECTION, "notice-from", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Address in the From field of notices; empty: MAILER-DAEMON at host-name", NULL},
	{SECTION, "notice-limit", CONF_INT, CONF_RELOAD, "300", 0, 1000000, NULL,
		"Notices that one address gets in notice-interval; what is to be told beyond it is in the "
		"log "
		"alone; 0: no limit",
		NULL},
	{SECTION, "notice-interval", CONF_DURATION, CONF_RELOAD, "1h", 1000, 604800000, NULL,
		"Of notice-limit", NULL},
	{SECTION, "postmaster", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Address that hears of notices, and other mail without a sender, that cannot be delivered; "
		"empty: "
		"the log alone",
		NULL},
	{SECTION, "failure-template", CONF_PATH, CONF_RELOAD, "", 0, 0, NULL,
		"File with the text of failure notices, UTF-8; it may begin with a line Subject: ... and an "
		"empty "
		"one. In it "
		"${recipients} ${sender} ${host} ${date} ${until} are replaced; empty: a built-in one",
		NULL},
	{SECTION, "delay-template", CONF_PATH, CONF_RELOAD, "", 0, 0, NULL, "The same of delay notices",
		NULL},
	{SECTION, "success-template", CONF_PATH, CONF_RELOAD, "", 0, 0, NULL,
		"The same of notices that a sender asked for when it was delivered or passed on", NULL},
	{SECTION, "srs-domain", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Domain of rewritten senders (SRS) of mail that accounts forward to other servers; bounces "
		"to it "
		"must come to this "
		"back-end. Empty: senders stay as they are",
		NULL},
	{SECTION, "srs-keys", CONF_PATH, CONF_RELOAD | CONF_PRIVATE, NULL, 0, 0, NULL,
		"File with keys for it, one a line, of 16 characters at least: the first signs, all are "
		"believed; "
		"mode 0600",
		NULL},
	{SECTION, "srs-lifetime", CONF_DURATION, CONF_RELOAD, "21d", 86400000, 8640000000, NULL,
		"How long bounces to a rewritten sender are taken; in whole days", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static const char *const templates[] = {"failure-template", "delay-template", "success-template"};

static bool is_plain_address(const char *s)
{
	const char *at = strchr(s, '@');

	return at && at != s && at[1] && !strpbrk(s, " <>\"\\,;:") && slice_is_ascii(slice_str(s)) &&
	       !slice_has_control(slice_str(s));
}

static void check_address(struct conf *conf, const char *key)
{
	const char *text = conf_get_string(conf, SECTION, NULL, key);

	if (text[0] && !is_plain_address(text))
		conf_error(conf, SECTION, NULL, key, "is no plain address");
}

static void check_template(struct conf *conf, const char *key)
{
	const char *path = conf_get_string(conf, SECTION, NULL, key), *why;
	struct buf text = {0};
	unsigned line;
	int err;

	if (!path[0])
		return;
	err = conf_file_read(path, QUEUE_TEMPLATE_MAX, &text);
	if (err) {
		conf_error(conf, SECTION, NULL, key, "%s: %s", path, strerror(err));
	} else {
		why = dsn_check_template(buf_view(&text), &line);
		if (why)
			conf_error(conf, SECTION, NULL, key, "%s:%u: %s", path, line, why);
	}
	buf_deinit(&text);
}

/* The keys of a text, views. NULL, or why not. */
static const char *split_keys(struct slice rest, struct slice *keys, size_t *count_out)
{
	size_t count = 0;

	while (rest.len) {
		ptrdiff_t at = slice_find(rest, '\n');
		struct slice line = slice_trim(slice_sub(rest, 0, at < 0 ? rest.len : (size_t)at));

		rest = at < 0 ? slice_of(NULL, 0) : slice_from(rest, (size_t)at + 1);
		if (!line.len || line.p[0] == '#')
			continue;
		if (line.len < SRS_KEY_LEAST)
			return "a key has at least 16 characters";
		if (count == SRS_KEYS_MOST)
			return "there are at most 8 keys";
		keys[count++] = line;
	}
	*count_out = count;
	return count ? NULL : "there is no key";
}

static void wipe(struct buf *text)
{
	if (text->data)
		explicit_bzero(text->data, text->cap);
	buf_deinit(text);
}

static bool is_domain(const char *s)
{
	for (const char *p = s; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') ||
			    ((*p == '-' || *p == '.') && p != s)))
			return false;
	return strlen(s) <= 200;
}

static void check_srs(struct conf *conf)
{
	const char *domain = conf_get_string(conf, SECTION, NULL, "srs-domain");
	const char *path = conf_get_string(conf, SECTION, NULL, "srs-keys"), *why;
	struct slice keys[SRS_KEYS_MOST];
	struct buf text = {0};
	size_t count;
	int err;

	if (!domain[0])
		return;
	if (!is_domain(domain))
		conf_error(conf, SECTION, NULL, "srs-domain", "is no domain name");
	if (!path[0]) {
		conf_error(conf, SECTION, NULL, "srs-domain", "needs srs-keys");
		return;
	}
	err = conf_file_read(path, KEY_FILE_MOST, &text);
	why = err ? strerror(err) : split_keys(buf_view(&text), keys, &count);
	if (why)
		conf_error(conf, SECTION, NULL, "srs-keys", "%s: %s", path, why);
	wipe(&text);
}

void queue_settings_check(struct conf *conf)
{
	check_address(conf, "notice-from");
	check_address(conf, "postmaster");
	for (size_t i = 0; i < ARRAY_LEN(templates); i++)
		check_template(conf, templates[i]);
	check_srs(conf);
	if (conf_get_duration(conf, SECTION, NULL, "retry-first") >
		conf_get_duration(conf, SECTION, NULL, "retry-most"))
		conf_error(conf, SECTION, NULL, "retry-first", "is longer than retry-most");
}

void queue_settings_read(const struct config *config, struct buf texts[3], struct queue_settings *out)
{
	const struct conf *conf = config->conf;
	unsigned line;

	*out = (struct queue_settings){
		.plan = {.retry_first = conf_get_duration(conf, SECTION, NULL, "retry-first"),
			.retry_most = conf_get_duration(conf, SECTION, NULL, "retry-most"),
			.tries = (unsigned)conf_get_int(conf, SECTION, NULL, "tries"),
			.lifetime = conf_get_duration(conf, SECTION, NULL, "lifetime"),
			.warning = conf_get_duration(conf, SECTION, NULL, "delay-warning")},
		.window = (unsigned)conf_get_int(conf, SECTION, NULL, "window"),
		.hops = (unsigned)conf_get_int(conf, SECTION, NULL, "hops"),
		.notice_size = conf_get_size(conf, SECTION, NULL, "notice-size"),
		.notice_limit = (unsigned)conf_get_int(conf, SECTION, NULL, "notice-limit"),
		.notice_interval = conf_get_duration(conf, SECTION, NULL, "notice-interval"),
		.host = config->host,
		.notice_from = conf_get_string(conf, SECTION, NULL, "notice-from"),
		.postmaster = conf_get_string(conf, SECTION, NULL, "postmaster")};
	for (size_t i = 0; i < ARRAY_LEN(templates); i++) {
		const char *path = conf_get_string(conf, SECTION, NULL, templates[i]);

		if (path[0] && (conf_file_read(path, QUEUE_TEMPLATE_MAX, &texts[i]) ||
				       dsn_check_template(buf_view(&texts[i]), &line))) {
			log_error("backend", "%s: the template cannot be used, the built-in one is", path);
			buf_clear(&texts[i]);
		}
	}
	out->failure_text = buf_str_view(&texts[0]);
	out->delay_text = buf_str_view(&texts[1]);
	out->success_text = buf_str_view(&texts[2]);
}

int queue_settings_srs(const struct conf *conf, struct srs **srs_out)
{
	const char *domain = conf_get_string(conf, SECTION, NULL, "srs-domain");
	struct slice keys[SRS_KEYS_MOST];
	struct buf text = {0};
	size_t count = 0;
	int err;

	*srs_out = NULL;
	if (!domain[0])
		return 0;
	err = conf_file_read(conf_get_string(conf, SECTION, NULL, "srs-keys"), KEY_FILE_MOST, &text);
	if (err || split_keys(buf_view(&text), keys, &count)) {
		log_error("backend", "the file of srs-keys cannot be used, the keys before it stay in force");
		wipe(&text);
		return ERR_CONFIG;
	}
	*srs_out = srs_new(slice_str(domain), keys, count,
		(unsigned)(conf_get_duration(conf, SECTION, NULL, "srs-lifetime") / DAY_MS));
	wipe(&text);
	return 0;
}
