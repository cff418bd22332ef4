/* The section `queue` of the configuration: the schedule, notices, and how senders of forwarded mail are rewritten. */
#pragma once

#include "backend/config.h"
#include "backend/delivery/queue.h"
#include "backend/delivery/srs.h"

#define QUEUE_TEMPLATE_MAX 65536

/* For the table's check: conf_error() for all that cannot be. */
void queue_settings_check(struct conf *conf);
/* Of a configuration that passed the check. Templates are read again, into texts (three of them), which settings borrow; one that cannot be read any
 * more gives the built-in text, and a line in the log. */
void queue_settings_read(
	const struct config *config, struct buf texts[3], struct queue_settings *settings_out);
/* The same; NULL: srs-domain is empty. A key file that cannot be read any more: ERR_CONFIG, the old ones stay. */
MUST_CHECK int queue_settings_srs(const struct conf *conf, struct srs **srs_out);

#define QUEUE_SETTINGS_SECTION                                                                               \
	{                                                                                                    \
		"queue", CONF_RELOAD, NULL, "Mail that waits for other servers, and notices about it"        \
	}
extern const struct conf_key queue_settings_keys[];
