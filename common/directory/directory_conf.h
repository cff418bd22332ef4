/*
 * The configuration's section `connector`: how servers are reached, and how an entry there is found and read. What an
 * entry's values mean is for who asks.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/directory/directory.h"

#define DIRECTORY_NAME_MOST 63 /* octets of a connector's name */

enum directory_several {
	DIRECTORY_SEVERAL_ERROR, /* more than one entry: not now, and a line of the log */
	DIRECTORY_SEVERAL_FIRST
};

struct directory_connector {
	struct directory_options directory; /* name, servers, times */
	const char *base;                   /* templates: %u %d %e %s (directory_text.h) */
	const char *filter;
	const char *address_filter; /* "": made of the attributes: directory_text_address_filter() */
	const char *person;         /* items that such a filter has besides */
	const char *host_attribute, *password_attribute, *account_attribute, *flags_attribute; /* "": none */
	const char *const *alias_attributes; /* NULL-ended */
	enum directory_several several;
};

#define DIRECTORY_CONF_SECTION                                                                               \
	{                                                                                                    \
		"connector", CONF_TITLED | CONF_RELOAD, NULL,                                                \
			"A group of LDAP servers, and how users are found there"                             \
	}
extern const struct conf_key directory_conf_keys[];
/* For the program's check(): what single keys cannot show. */
void directory_conf_check(struct conf *conf);
/* One connector, as views of the configuration. */
void directory_conf_read(
	const struct conf *conf, const char *title, struct directory_connector *connector_out);
