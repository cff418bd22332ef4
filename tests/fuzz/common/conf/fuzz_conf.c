/*
 * A configuration of any bytes: it loads or is refused with a reason; what loaded and is printed loads again.
 */
#include <stdlib.h>

#include "common/conf/conf.h"

static const struct conf_section sections[] = {
	{"limits", 0, NULL, "Limits"},
	{"listener", CONF_TITLED | CONF_RELOAD, NULL, "A listener"},
	{"service", CONF_TITLED, "imap pop3", "A service"},
	{0},
};
static const struct conf_key keys[] = {
	{"", "loops", CONF_INT, 0, "4", 1, 64, NULL, "Loops", NULL},
	{"", "name", CONF_STRING, CONF_RELOAD, "x", 0, 0, NULL, "Name", NULL},
	{"", "level", CONF_ENUM, CONF_RELOAD, "info", 0, 0, "warn info", "Level", NULL},
	{"limits", "size", CONF_SIZE, CONF_RELOAD, "10M", 1024, 1u << 30, NULL, "Size", NULL},
	{"limits", "idle", CONF_DURATION, CONF_RELOAD, "35m", 1000, 0, NULL, "Idle", NULL},
	{"listener", "listen", CONF_ADDRESSES, CONF_REQUIRED, NULL, 1, 0, NULL, "Addresses", NULL},
	{"listener", "tls", CONF_BOOL, CONF_RELOAD, "no", 0, 0, NULL, "TLS", NULL},
	{"listener", "allow", CONF_NETWORKS, CONF_RELOAD, "::1", 0, 0, NULL, "Who may", NULL},
	{"service", "list", CONF_LIST, CONF_RELOAD, "plain", 0, 0, NULL, "List", NULL},
	{"service", "file", CONF_PATH, CONF_RELOAD, NULL, 0, 0, NULL, "File", "pop3"},
	{0},
};
static const struct conf_key *const tables[] = {keys, NULL};
static const struct conf_table table = {"fuzz", "/etc/fuzz.conf", sections, tables, NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *conf = NULL, *again = NULL;
	struct buf why = {0};
	char *text = NULL;
	size_t len = 0;
	FILE *out;

	if (conf_load_text(&table, "f", slice_of(data, size), &why, &conf)) {
		require(buf_len(&why) > 0);
		buf_deinit(&why);
		return 0;
	}
	out = open_memstream(&text, &len);
	require(out != NULL);
	conf_print(conf, out);
	fclose(out);
	require(conf_load_text(&table, "f", slice_of(text, len), &why, &again) == 0);
	free(text);
	conf_free(&again);
	conf_free(&conf);
	buf_deinit(&why);
	return 0;
}
