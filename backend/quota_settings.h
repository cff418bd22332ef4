/* The section `quota-warning` of the configuration: whom to warn, and how. */
#pragma once

#include "backend/config.h"
#include "backend/delivery/quota_warning.h"

/* For the table's check: conf_error() for all that cannot be. */
void quota_settings_check(struct conf *conf);
/* Of a configuration that passed the check; the template is read again, into text, and settings borrow both. A template that cannot
 * be read any more gives the built-in one, and a line in the log. */
void quota_settings_read(
	const struct config *config, struct buf *text, struct quota_warning_settings *settings_out);

#define QUOTA_SETTINGS_SECTION                                                                               \
	{                                                                                                    \
		"quota-warning", CONF_RELOAD, NULL, "Messages to users whose mailboxes fill up"              \
	}
extern const struct conf_key quota_settings_keys[];
