#include "backend/quota_settings.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/num.h"
#include "common/conf/conf_file.h"

#define SECTION "quota-warning"

const struct conf_key quota_settings_keys[] = {
	{SECTION, "thresholds", CONF_LIST, CONF_RELOAD, "", 0, 0, NULL,
		"Percent of an account's limit of bytes or messages, or of a folder's, at which its user is "
		"warned, such as "
		"{80%, 95%}; "
		"empty: nobody is",
		NULL},
	{SECTION, "interval", CONF_DURATION, CONF_RELOAD, "1d", 60000, 31536000000, NULL,
		"A threshold is told of at most once in this time", NULL},
	{SECTION, "template", CONF_PATH, CONF_RELOAD, "", 0, 0, NULL,
		"File with the message: a line Subject: ..., an empty line, the text, in UTF-8; empty: a "
		"built-in one. In it "
		"${user} ${domain} ${percent} ${threshold} ${used} ${limit} ${messages} ${messages_limit} "
		"are replaced",
		NULL},
	{SECTION, "from", CONF_STRING, CONF_RELOAD, "", 0, 0, NULL,
		"Address that the warnings come from; empty: postmaster at the user's domain", NULL},
	{NULL, NULL, CONF_BOOL, 0, NULL, 0, 0, NULL, NULL, NULL},
};

static int by_number(const void *a, const void *b)
{
	const unsigned *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* NULL, or why not. */
static const char *read_thresholds(const struct conf *conf, unsigned *out, size_t *count_out)
{
	size_t count;
	const char *const *list = conf_get_list(conf, SECTION, NULL, "thresholds", &count);

	*count_out = 0;
	if (count > STORE_QUOTA_THRESHOLDS_MAX)
		return "are at most 10";
	for (size_t i = 0; i < count; i++) {
		struct slice text = slice_str(list[i]);
		uint32_t n;

		if (text.len && text.p[text.len - 1] == '%')
			text.len--;
		if (num_parse_u32(text, &n) < 0 || n < 1 || n > 100)
			return "are percents from 1% to 100%";
		out[i] = n;
	}
	qsort(out, count, sizeof(*out), by_number);
	for (size_t i = 1; i < count; i++)
		if (out[i] == out[i - 1])
			return "stand twice";
	*count_out = count;
	return NULL;
}

void quota_settings_check(struct conf *conf)
{
	const char *path = conf_get_string(conf, SECTION, NULL, "template");
	const char *from = conf_get_string(conf, SECTION, NULL, "from"), *why;
	unsigned thresholds[STORE_QUOTA_THRESHOLDS_MAX], line;
	struct buf text = {0};
	size_t count;
	int err;

	why = read_thresholds(conf, thresholds, &count);
	if (why)
		conf_error(conf, SECTION, NULL, "thresholds", "%s", why);
	if (from[0] &&
		(!strchr(from, '@') || strpbrk(from, " <>\"\\,;:") || !slice_is_ascii(slice_str(from))))
		conf_error(conf, SECTION, NULL, "from", "is no plain address");
	if (!path[0])
		return;
	err = conf_file_read(path, QUOTA_WARNING_TEMPLATE_MAX, &text);
	if (err) {
		conf_error(conf, SECTION, NULL, "template", "%s: %s", path, strerror(err));
	} else {
		why = quota_warning_check(buf_view(&text), &line);
		if (why)
			conf_error(conf, SECTION, NULL, "template", "%s:%u: %s", path, line, why);
	}
	buf_deinit(&text);
}

void quota_settings_read(
	const struct config *config, struct buf *text, struct quota_warning_settings *settings_out)
{
	const struct conf *conf = config->conf;
	const char *path = conf_get_string(conf, SECTION, NULL, "template");
	unsigned line;

	*settings_out = (struct quota_warning_settings){
		.interval_s = conf_get_duration(conf, SECTION, NULL, "interval") / 1000,
		.from = conf_get_string(conf, SECTION, NULL, "from"),
		.host = config->host};
	(void)read_thresholds(conf, settings_out->thresholds, &settings_out->count);
	if (path[0] && (conf_file_read(path, QUOTA_WARNING_TEMPLATE_MAX, text) ||
			       quota_warning_check(buf_view(text), &line))) {
		log_error("backend", "%s: the template cannot be used, the built-in one is", path);
		buf_clear(text);
	}
	settings_out->template = buf_view(text);
}
