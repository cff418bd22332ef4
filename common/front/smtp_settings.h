/*
 * The keys of section `smtp`, which both programs have: limits and manners of their services smtp and submission. Main thread.
 */
#pragma once

#include "common/conf/conf.h"
#include "common/front/smtp_front.h"

/* Rows for a program's table of keys. */
extern const struct conf_key smtp_settings_keys[];
#define SMTP_SETTINGS_SECTION                                                                                \
	{                                                                                                    \
		"smtp", CONF_RELOAD, NULL, "Mail in: limits of the services smtp and submission"             \
	}

/* Sets limits and manners; is_submission: no banner delay. */
void smtp_settings_read(const struct conf *conf, bool is_submission, struct smtp_service *service);
