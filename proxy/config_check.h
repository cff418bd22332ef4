/*
 * What no single key can show: combinations that cannot work or would break a promise. Called while a configuration is loaded, so that
 * --check, start and reload refuse the same things.
 */
#pragma once

#include "common/conf/conf.h"

/* Titles of the sections `service`, in the order of enum config_service. */
#define CONFIG_SERVICE_TITLES "imap pop3 smtp submission"

void config_check(struct conf *conf);

/* Does any listener offer it? */
bool config_check_is_used(const struct conf *conf, const char *service);
/* May our own credential go to this host without TLS? "localhost", loopback addresses, unix sockets. */
bool config_check_is_loopback(const char *host);
/* Only one used service asks this map. */
bool config_check_is_sole_user(const struct conf *conf, const char *map);
